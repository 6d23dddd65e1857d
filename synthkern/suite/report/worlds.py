"""Each metric of the tables from world to world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthkern.suite.baselines import Role
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import (
    BAR,
    Figure,
    Kind,
    Panel,
    color,
    label,
    named,
    short,
    symbol,
)
from synthkern.suite.summary import Group, table_metrics

WORLDS = Kind(
    name="worlds",
    title="Metrics from world to world",
    caption="Means over seeds on every world of the suite; bars are standard deviations over "
    "seeds. Floors, ceilings and SAEs that were given have hollow symbols.",
    by_l0=True,
)

#: Pixels of a panel, and of a world's name below it.
_PANEL, _LETTER = 240, 5


def world_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite of several worlds, and every L0, a panel per metric of more than one.

    Worlds that are the points of a sweep are its own figure's.
    """
    swept = {run.suite for run in contents.runs if run.axes}
    places: dict[tuple[str, float | None], list[Group]] = {}
    for group in contents.groups:
        if group.suite not in swept:
            places.setdefault((group.suite, group.l0), []).append(group)
    for (suite, l0), groups in places.items():
        worlds = {group.world: label(group.world, 36) for group in groups}
        if len(worlds) < 2:
            continue
        metrics = table_metrics(
            name for group in groups for figures in group.saes.values() for name in figures
        )
        x = {
            "type": "category",
            "categoryarray": list(worlds.values()),
            "tickmode": "linear",  # every name
            "tickangle": -35,
        }
        panels = []
        for metric, heading in metrics.items():
            traces = [
                trace
                for number, sae in enumerate(contents.saes)
                for trace in _points(groups, worlds, number, sae, metric)
            ]
            if len({world for trace in traces for world in trace["x"]}) > 1:
                panels.append(Panel(heading, traces, x, {"hoverformat": ".4f"}))
        if panels:
            height = _PANEL + _LETTER * max(map(len, worlds.values()))
            yield Figure(WORLDS, suite, "", l0, panels, contents.saes, height)


def _points(
    groups: list[Group], worlds: dict[str, str], number: int, sae: str, metric: str
) -> Iterator[dict[str, Any]]:
    """What an SAE has on each world, if it has the metric on any."""
    having = [group for group in groups if metric in group.saes.get(sae, {})]
    if not having:
        return
    role: Role = having[0].roles.get(sae, "trained")
    found = [group.saes[sae][metric] for group in having]
    yield {
        **named(number, sae),
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"color": color(number), "width": 0.6, "dash": "dot"},
        "marker": {
            "color": color(number),
            "symbol": symbol(number) + ("" if role == "trained" else "-open"),
            "size": 8,
        },
        "x": [worlds[group.world] for group in having],
        "y": short([each.mean for each in found], 5),
        "error_y": {**BAR, "array": short([each.std or 0.0 for each in found], 2)},
    }
