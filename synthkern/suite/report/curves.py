"""Training curves of a report: means over seeds, thinned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import (
    LOGARITHM,
    Figure,
    Kind,
    Panel,
    color,
    named,
    short,
    tint,
    wide,
)
from synthkern.training.history import TrainingHistory

#: Panels: the figures of a history's rows, and whether an axis may be a logarithm.
_FIGURES = {
    "loss": ("loss", True),
    "l0": ("active latents (L0)", True),
    "explained_variance": ("explained variance", False),
    "dead_latents": ("dead latents", False),
}

#: Numbers in all curves of a report together.
_BUDGET = 500_000

#: Points of a curve, however many there are.
_FEWEST, _MOST = 12, 200

CURVES = Kind(
    name="curves",
    title="Training curves",
    caption="Means over seeds; the bands go from the lowest seed to the highest.",
    by_l0=True,
)


def curve_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite, world and L0 that was asked for a panel per figure of the histories."""
    saes = contents.finished()
    curves = len(_FIGURES) * sum(
        3 if len(runs) > 1 else 1 for of_place in saes.values() for runs in of_place.values()
    )
    points = min(_MOST, max(_FEWEST, _BUDGET // max(1, curves)))
    for (suite, world, l0), of_place in saes.items():
        traces: dict[str, list[dict[str, Any]]] = {name: [] for name in _FIGURES}
        for sae, runs in of_place.items():
            histories = [found for _, found in contents.database.curves(run.key for run in runs)]
            for name, drawn in traces.items():
                drawn += _traces(contents.saes.index(sae), sae, histories, name, points)
        panels = [_panel(*_FIGURES[name], drawn) for name, drawn in traces.items() if drawn]
        if panels:
            yield Figure(CURVES, suite, world, l0, panels, contents.saes)


def _panel(title: str, may_be_log: bool, traces: list[dict[str, Any]]) -> Panel:
    log = may_be_log and wide(value for trace in traces for value in trace["y"])
    x = {"title": {"text": "samples"}, "hoverformat": ".4s"}
    return Panel(title, traces, x, {"hoverformat": ".4~g", **(LOGARITHM if log else {})})


def _traces(
    number: int, sae: str, histories: Sequence[TrainingHistory], name: str, points: int
) -> list[dict[str, Any]]:
    """The mean of some curves, and below and above it the ends of a band."""
    curves = [(np.asarray(x), np.asarray(y)) for x, y in (h.curve(name) for h in histories) if x]
    if not curves:
        return []
    at = _grid([x for x, _ in curves], points)
    values = np.stack([np.interp(at, x, y, left=np.nan, right=np.nan) for x, y in curves])
    line = {**named(number, sae), "type": "scatter", "mode": "lines", "x": short(at, 6)}
    band = {**line, "line": {"width": 0}, "hoverinfo": "skip"}
    filled = {**band, "fill": "tonexty", "fillcolor": tint(number, 0.14)}
    drawn = {**line, "line": {"color": color(number), "width": 1.6}}
    # At every place of the grid at least the curve that it was taken from has a value.
    mean = {**drawn, "y": short(np.nanmean(values, axis=0))}
    if len(curves) == 1:
        return [mean]
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return [mean, {**band, "y": short(low)}, {**filled, "y": short(high)}]


def _grid(places: list[npt.NDArray[Any]], points: int) -> npt.NDArray[Any]:
    """Some of the longest curve's samples: half of them evenly, half denser at the beginning."""
    longest = max(places, key=lambda x: float(x[-1]))
    return longest if len(longest) <= points else longest[_places(len(longest), points)]


@lru_cache
def _places(count: int, points: int) -> npt.NDArray[np.int64]:
    half = points // 2
    evenly = np.linspace(0, count - 1, points - half)
    denser = np.geomspace(1, count, half) - 1
    return np.unique(np.concatenate([evenly, denser]).round().astype(np.int64))
