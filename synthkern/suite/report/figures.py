"""The figures of a report."""

from __future__ import annotations

from collections.abc import Iterator

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.curves import CURVES, curve_panels
from synthkern.suite.report.densities import DENSITIES, density_panels
from synthkern.suite.report.figure import Figure, FigureSpec
from synthkern.suite.report.metrics import METRICS, metric_panels
from synthkern.suite.report.throughput import THROUGHPUT, throughput_panels

#: In the order of the page.
KINDS: tuple[FigureSpec, ...] = (METRICS, CURVES, DENSITIES, THROUGHPUT)


def figures(contents: ReportData) -> Iterator[Figure]:
    """Those of finished runs: for every suite and world, and L0 where the kind is by L0."""
    for (suite, world), panels in metric_panels(contents).items():
        yield Figure(METRICS, suite, world, None, panels)
    for (suite, world, l0), panels in curve_panels(contents).items():
        yield Figure(CURVES, suite, world, l0, panels)
    for (suite, world, l0), panels in density_panels(contents).items():
        yield Figure(DENSITIES, suite, world, l0, panels)
    for (suite, world), panels in throughput_panels(contents).items():
        yield Figure(THROUGHPUT, suite, world, None, panels)
