"""Where the latents of each SAE lie in the plane of recall and precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.suite.baselines import Role
from synthkern.suite.database import Run
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import Figure, Kind, Panel, named, short, tint

#: Cells in all figures of a report together.
_BUDGET = 600_000

#: Cells along a side, however many figures there are.
_FEWEST, _MOST = 8, 40

#: Opacity of a cell's colour, by its share of the largest value: what is rare can still be seen.
_OPACITIES = ((0.0, 0.0), (0.0005, 0.15), (0.01, 0.3), (0.1, 0.55), (0.3, 0.75), (1.0, 1.0))

DENSITIES = Kind(
    name="precision-recall",
    title="Latents as detectors of their features",
    caption="Share of an SAE's latents by precision and recall, all seeds together, with the same "
    "scale of colours for all SAEs. Latents that never fired are counted above and left out. "
    "The cross is at the means of the others.",
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


def density_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite, world and L0 that was asked for a panel per SAE."""
    saes = contents.finished()
    side = int(np.sqrt(_BUDGET / max(1, sum(map(len, saes.values())))))
    side = min(_MOST, max(_FEWEST, side))
    for (suite, world, l0), of_place in saes.items():
        counted = _counted(contents, of_place, side)
        largest = max((100 * each.cells.max() / each.all for each in counted.values()), default=0)
        panels = [
            _panel(
                contents.saes.index(sae),
                sae,
                latents,
                short([largest], 3)[0] or 1,
                of_place[sae][0].role,
            )
            for sae, latents in counted.items()
        ]
        if panels:
            yield Figure(DENSITIES, suite, world, l0, panels)


def _counted(
    contents: ReportData, of_place: dict[str, list[Run]], side: int
) -> dict[str, _Latents]:
    """The latents of each SAE that has some."""
    saes = {run.key: sae for sae, runs in of_place.items() for run in runs}
    counted = {sae: _Latents(np.zeros((side, side))) for sae in of_place}
    columns = ("precision", "recall", "rate")
    for key, found in contents.database.latents(saes, columns):
        counted[saes[key]].add(found)
    return {sae: latents for sae, latents in counted.items() if latents.all}


def _panel(number: int, sae: str, latents: _Latents, largest: float, role: Role) -> Panel:
    side = len(latents.cells)
    shares = short(100 * latents.cells.ravel() / latents.all, 2)
    first, width = short([0.5 / side, 1 / side], 6)
    cells = {
        **named(number, sae),
        "type": "heatmap",
        "colorscale": [[at, tint(number, opacity)] for at, opacity in _OPACITIES],
        "showscale": False,
        "hovertemplate": "recall %{x:.2f}, precision %{y:.2f}<br>%{z:.3~g}% of the latents"
        "<extra></extra>",
        "x0": first,
        "dx": width,
        "y0": first,
        "dy": width,
        "z": [shares[start : start + side] for start in range(0, side * side, side)],
        "zmin": 0,
        "zmax": largest,
    }
    traces = [cells]
    if latents.fired:
        recall, precision = short(latents.sums / latents.fired)
        traces.append(
            {
                **named(number, sae),
                "type": "scatter",
                "mode": "markers",
                "marker": {
                    "symbol": "cross-thin",
                    "size": 14,
                    "line": {"width": 2.5, "color": "crimson"},
                },
                "hovertemplate": "means: recall %{x:.3f}, precision %{y:.3f}<extra></extra>",
                "x": [recall],
                "y": [precision],
            }
        )
    dead = latents.all - latents.fired
    name = sae if role == "trained" else f"{sae} ({role})"
    title = f"{name}: {dead:,} of {latents.all:,} never fired" if dead else name
    recall_axis, precision_axis = (
        {"title": {"text": text}, "range": [0, 1]} for text in ("recall", "precision")
    )
    return Panel(title, traces, recall_axis, precision_axis)
