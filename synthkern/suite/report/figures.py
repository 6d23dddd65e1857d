"""The figures of a report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.curves import CURVES, curve_figures
from synthkern.suite.report.densities import DENSITIES, density_figures
from synthkern.suite.report.figure import Figure, Kind
from synthkern.suite.report.frequencies import FREQUENCIES, frequency_figures
from synthkern.suite.report.metrics import METRICS, metric_figures
from synthkern.suite.report.throughput import THROUGHPUT, throughput_figures
from synthkern.suite.report.worlds import WORLDS, world_figures

#: In the order of the page.
KINDS: tuple[Kind, ...] = (METRICS, WORLDS, FREQUENCIES, CURVES, DENSITIES, THROUGHPUT)


def figures(contents: ReportData) -> Iterator[Figure]:
    """Those of finished runs: for every suite and world, and L0 where the kind is by L0; what is
    of all worlds of a suite once, without a world.

    Worlds of sweeps that would have too many names in them have none.
    """
    contents = contents.uncrowded()
    return chain(
        metric_figures(contents),
        world_figures(contents),
        frequency_figures(contents),
        curve_figures(contents),
        density_figures(contents),
        throughput_figures(contents),
    )
