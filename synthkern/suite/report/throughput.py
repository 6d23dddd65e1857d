"""How fast the runs trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from synthkern.suite.report.contents import ReportData, in_words
from synthkern.suite.report.figure import FigureSpec, Panel, Series, label, short, wide

THROUGHPUT = FigureSpec(
    name="throughput",
    title="Throughput",
    caption="Samples trained on per second, by what did it: means over runs; bars are standard "
    "deviations over runs.",
    layers={
        "mean": {
            "type": "scatter",
            "mode": "markers",
            "name": "@label",
            "marker": {"color": "@color", "symbol": "@symbol", "size": 9},
            "error_x": {"type": "data", "thickness": 1.2, "width": 3},
        }
    },
    axes=(
        {
            "title": {"text": "samples per second"},
            "tickformat": "~s",
            "rangemode": "tozero",
            "hoverformat": ",.0f",
        },
        {
            "type": "category",
            "tickmode": "linear",
            "autorange": "reversed",
            "automargin": True,
        },
    ),
    legend="hardware",
)


def throughput_panels(contents: ReportData) -> dict[tuple[str, str], list[Panel]]:
    """For every suite and world with a finished run a panel of samples per second."""
    speeds: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    numbers = {name: number for number, name in enumerate(contents.hardware)}
    for run in contents.runs:
        if run.state == "done" and run.samples_per_second is not None:
            number = numbers[in_words(run.hardware)]
            of_place = speeds.setdefault((run.suite, run.world), {})
            of_place.setdefault(number, {}).setdefault(run.sae, []).append(run.samples_per_second)
    return {place: [_panel(of_place)] for place, of_place in speeds.items()}


def _panel(speeds: dict[int, dict[str, list[float]]]) -> Panel:
    labels = _labels(list(dict.fromkeys(sae for saes in speeds.values() for sae in saes)))
    series = [_series(number, saes, labels) for number, saes in sorted(speeds.items())]
    return Panel(
        "",
        series,
        log="x" if wide(speed for each in series for speed in each.values["x"]) else None,
        lines=len(labels),
    )


def _labels(saes: Sequence[str]) -> dict[str, str]:
    """What is beside the axis: short where names stay different."""
    shorter = {sae: label(sae, 36) for sae in saes}
    if len(set(shorter.values())) == len(saes):
        return shorter
    return {sae: label(sae, len(sae)) for sae in saes}


def _series(number: int, saes: dict[str, list[float]], labels: Mapping[str, str]) -> Series:
    values = {
        "y": [labels[sae] for sae in saes],
        "x": short([float(np.mean(found)) for found in saes.values()]),
        "error_x.array": short(
            [float(np.std(found, ddof=1)) if len(found) > 1 else 0.0 for found in saes.values()],
            2,
        ),
    }
    return Series("mean", number, values)
