"""How fast the runs trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from synthkern.suite.report.contents import ReportData, in_words
from synthkern.suite.report.figure import (
    BAR,
    LOGARITHM,
    Figure,
    Kind,
    Panel,
    color,
    label,
    named,
    short,
    symbol,
    wide,
)

THROUGHPUT = Kind(
    name="throughput",
    title="Throughput",
    caption="Samples trained on per second, by what did it: means over runs; bars are standard "
    "deviations over runs.",
)


def throughput_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite and world with a finished run a panel of samples per second."""
    speeds: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for run in contents.runs:
        if run.state == "done" and run.samples_per_second is not None:
            of_place = speeds.setdefault((run.suite, run.world), {})
            of_hardware = of_place.setdefault(in_words(run.hardware), {})
            of_hardware.setdefault(run.sae, []).append(run.samples_per_second)
    for (suite, world), of_place in speeds.items():
        labels = _labels(list(dict.fromkeys(sae for saes in of_place.values() for sae in saes)))
        traces = []
        for number, hardware in enumerate(contents.hardware):
            if hardware in of_place:
                found = of_place[hardware].values()
                spreads = [float(np.std(each, ddof=1)) if len(each) > 1 else 0.0 for each in found]
                traces.append(
                    {
                        **named(number, hardware),
                        "type": "scatter",
                        "mode": "markers",
                        "marker": {"color": color(number), "symbol": symbol(number), "size": 9},
                        "x": short([float(np.mean(each)) for each in found]),
                        "error_x": {**BAR, "array": short(spreads, 2)},
                        "y": [labels[sae] for sae in of_place[hardware]],
                    }
                )
        log = wide(speed for trace in traces for speed in trace["x"])
        x = {
            "title": {"text": "samples per second"},
            "rangemode": "tozero",
            "hoverformat": ",.0f",
            **(LOGARITHM if log else {}),
            "tickformat": "~s",
        }
        y = {"type": "category", "tickmode": "linear", "autorange": "reversed"}
        # Names are below one another.
        height = 80 + 34 * len(labels)
        panel = Panel("", traces, x, y)
        yield Figure(THROUGHPUT, suite, world, None, [panel], contents.hardware, height)


def _labels(saes: Sequence[str]) -> dict[str, str]:
    """What is beside the axis: short where names stay different."""
    shorter = {sae: label(sae, 36) for sae in saes}
    if len(set(shorter.values())) == len(saes):
        return shorter
    return {sae: label(sae, len(sae)) for sae in saes}
