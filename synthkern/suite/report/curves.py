"""Training curves of a report: means over seeds, thinned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import FigureSpec, Panel, Series, short, wide
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

CURVES = FigureSpec(
    name="curves",
    title="Training curves",
    caption="Means over seeds; the bands go from the lowest seed to the highest.",
    layers={
        "low": {
            "type": "scatter",
            "mode": "lines",
            "name": "@label",
            "line": {"width": 0},
            "hoverinfo": "skip",
        },
        "high": {
            "type": "scatter",
            "mode": "lines",
            "name": "@label",
            "line": {"width": 0},
            "fill": "tonexty",
            "fillcolor": "@tint",
            "hoverinfo": "skip",
        },
        "mean": {
            "type": "scatter",
            "mode": "lines",
            "name": "@label",
            "line": {"color": "@color", "width": 1.6},
        },
    },
    axes=(
        {"title": {"text": "samples"}, "hoverformat": ".4s"},
        {"hoverformat": ".4~g"},
    ),
    by_l0=True,
)


def curve_panels(contents: ReportData) -> dict[tuple[str, str, float | None], list[Panel]]:
    """For every suite, world and L0 that was asked for a panel per figure."""
    places = contents.finished()
    drawn: dict[tuple[str, str, float | None], dict[str, list[Series]]] = {}
    for place, runs in places.items():
        suite, world, sae, l0 = place
        histories = [found for _, found in contents.database.curves(run.key for run in runs)]
        panels = drawn.setdefault((suite, world, l0), {name: [] for name in _FIGURES})
        for name in _FIGURES:
            panels[name] += _series(
                contents.saes.index(sae), histories, name, _points(len(places), len(runs))
            )
    found = {
        place: [
            Panel(
                _FIGURES[name][0], series, log="y" if _FIGURES[name][1] and _wide(series) else None
            )
            for name, series in of_place.items()
            if series
        ]
        for place, of_place in drawn.items()
    }
    return {place: panels for place, panels in found.items() if panels}


def _points(places: int, runs: int) -> int:
    """Of a curve, so that all keep to the budget."""
    curves = places * len(_FIGURES) * (3 if runs > 1 else 1)
    return min(_MOST, max(_FEWEST, _BUDGET // curves))


def _series(
    number: int, histories: Iterable[TrainingHistory], name: str, points: int
) -> list[Series]:
    curves = [(np.asarray(x), np.asarray(y)) for x, y in (h.curve(name) for h in histories) if x]
    if not curves:
        return []
    at = _grid([x for x, _ in curves], points)
    values = np.stack([np.interp(at, x, y, left=np.nan, right=np.nan) for x, y in curves])
    # At every place of the grid at least the curve that it was taken from has a value.
    layers = {"mean": np.nanmean(values, axis=0)}
    if len(curves) > 1:
        layers = {
            "low": np.nanmin(values, axis=0),
            "high": np.nanmax(values, axis=0),
            **layers,
        }
    x = short(at, 6)
    return [Series(layer, number, {"x": x, "y": short(y)}) for layer, y in layers.items()]


def _grid(places: list[npt.NDArray[Any]], points: int) -> npt.NDArray[Any]:
    """Some of the longest curve's samples: half of them evenly, half denser at the beginning."""
    longest = max(places, key=lambda x: float(x[-1]))
    count = len(longest)
    if count <= points:
        return longest
    half = points // 2
    evenly = np.linspace(0, count - 1, points - half)
    denser = np.geomspace(1, count, half) - 1
    return longest[np.unique(np.concatenate([evenly, denser]).round().astype(int))]


def _wide(series: Iterable[Series]) -> bool:
    return wide(value for each in series for value in each.values["y"])
