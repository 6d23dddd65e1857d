"""Where the latents of each SAE lie in the plane of recall and precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.suite.database import Run
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import FigureSpec, Panel, Series, short

#: Cells in all figures of a report together.
_BUDGET = 600_000

#: Cells along a side, however many figures there are.
_FEWEST, _MOST = 8, 40

DENSITIES = FigureSpec(
    name="precision-recall",
    title="Latents as detectors of their features",
    caption="Share of an SAE's latents by precision and recall, all seeds together, with the same "
    "scale of colours for all SAEs. Latents that never fired are counted above and left out. "
    "The cross is at the means of the others.",
    layers={
        "cells": {
            "type": "heatmap",
            "name": "@label",
            "colorscale": "@scale",
            "showscale": False,
            "zmin": 0,
            "hovertemplate": "recall %{x:.2f}, precision %{y:.2f}<br>%{z:.3~g}% of the latents"
            "<extra></extra>",
        },
        "means": {
            "type": "scatter",
            "mode": "markers",
            "name": "@label",
            "marker": {
                "symbol": "cross-thin",
                "size": 14,
                "line": {"width": 2.5, "color": "crimson"},
            },
            "hovertemplate": "means: recall %{x:.3f}, precision %{y:.3f}<extra></extra>",
        },
    },
    axes=(
        {"title": {"text": "recall"}, "range": [0, 1]},
        {"title": {"text": "precision"}, "range": [0, 1]},
    ),
    named=True,
    by_l0=True,
)


@dataclass
class _Latents:
    """Latents of some runs, counted by cell."""

    cells: npt.NDArray[np.float64]
    fired: int = 0
    all: int = 0
    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def add(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        fires = columns["rate"] > 0
        recall, precision = columns["recall"][fires], columns["precision"][fires]
        side = len(self.cells)
        rows, across = (
            np.clip((values * side).astype(int), 0, side - 1) for values in (precision, recall)
        )
        self.cells += np.bincount(rows * side + across, minlength=side * side).reshape(side, side)
        self.fired += int(fires.sum())
        self.all += len(fires)
        self.sums += [recall.sum(dtype=float), precision.sum(dtype=float)]


def density_panels(contents: ReportData) -> dict[tuple[str, str, float | None], list[Panel]]:
    """For every suite, world and L0 that was asked for a panel per SAE."""
    places = contents.finished()
    side = int(np.sqrt(_BUDGET / max(1, len(places))))
    side = min(_MOST, max(_FEWEST, side))
    drawn: dict[tuple[str, str, float | None], dict[str, _Latents]] = {}
    for (suite, world, sae, l0), runs in places.items():
        latents = _counted(contents, runs, side)
        if latents.all:
            drawn.setdefault((suite, world, l0), {})[sae] = latents
    return {
        place: [
            _panel(contents.saes.index(sae), sae, latents, _largest(saes))
            for sae, latents in saes.items()
        ]
        for place, saes in drawn.items()
    }


def _counted(contents: ReportData, runs: list[Run], side: int) -> _Latents:
    latents = _Latents(np.zeros((side, side)))
    columns = ("precision", "recall", "rate")
    for _, found in contents.database.latents((run.key for run in runs), columns):
        latents.add(found)
    return latents


def _largest(saes: dict[str, _Latents]) -> float:
    """The greatest share in a cell, in percent."""
    return max(float(100 * each.cells.max() / each.all) for each in saes.values())


def _panel(number: int, sae: str, latents: _Latents, largest: float) -> Panel:
    side = len(latents.cells)
    shares = 100 * latents.cells / latents.all
    first, width = short([0.5 / side, 1 / side], 6)
    series = [
        Series(
            "cells",
            number,
            {
                "z": _in_rows(short(shares.ravel(), 2), side),
                "x0": first,
                "dx": width,
                "y0": first,
                "dy": width,
                "zmax": short([largest], 3)[0] or 1,
            },
        )
    ]
    if latents.fired:
        recall, precision = short(latents.sums / latents.fired)
        series.append(Series("means", number, {"x": [recall], "y": [precision]}))
    dead = latents.all - latents.fired
    return Panel(f"{sae}: {dead:,} of {latents.all:,} never fired" if dead else sae, series)


def _in_rows(values: list[Any], width: int) -> list[list[Any]]:
    return [values[first : first + width] for first in range(0, len(values), width)]
