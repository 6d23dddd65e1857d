"""Each figure of the tables against the measured L0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthkern.suite.baselines import Role
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import BAR, Figure, Kind, Panel, color, named, short, symbol
from synthkern.suite.summary import Group, MeanStd, table_metrics

METRICS = Kind(
    name="metrics",
    title="Metrics against L0",
    caption="Means over seeds at the measured L0; bars are standard deviations over seeds. Where "
    "something was published, hollow diamonds show it at the L0 that was asked for. Floors, "
    "ceilings and SAEs that were given have hollow symbols; one without an L0 is a dashed line.",
)


def metric_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite and world with a finished run a panel per metric."""
    places: dict[tuple[str, str], list[Group]] = {}
    for group in contents.groups:
        places.setdefault((group.suite, group.world), []).append(group)
    for (suite, world), groups in places.items():
        roles = {sae: role for group in groups for sae, role in group.roles.items()}
        ends = _ends(groups)
        panels = []
        metrics = table_metrics(
            name for group in groups for figures in group.saes.values() for name in figures
        )
        for metric, heading in metrics.items():
            if metric != "sae_l0":
                traces = [
                    trace
                    for number, sae in enumerate(contents.saes)
                    for trace in _traces(groups, number, sae, metric, roles.get(sae, "trained"))
                ]
                if traces and ends:
                    for number, sae in enumerate(contents.saes):
                        traces += _level(groups, number, sae, metric, ends)
                if traces:
                    x = {"title": {"text": "L0"}, "hoverformat": ".2f"}
                    panels.append(Panel(heading, traces, x, {"hoverformat": ".4f"}))
        if panels:
            yield Figure(METRICS, suite, world, None, panels, contents.saes)


def _ends(groups: list[Group]) -> tuple[float, float] | None:
    """The least and the greatest measured L0."""
    found = [of["sae_l0"].mean for group in groups for of in group.saes.values() if "sae_l0" in of]
    return (min(found), max(found)) if found else None


def _level(
    groups: list[Group], number: int, sae: str, metric: str, ends: tuple[float, float]
) -> Iterator[dict[str, Any]]:
    """The line of what has the figure and no L0, such as probes."""
    for group in groups:
        figures = group.saes.get(sae, {})
        if metric in figures and "sae_l0" not in figures:
            yield {
                **named(number, sae),
                "type": "scatter",
                "mode": "lines",
                "line": {"color": color(number), "width": 1.5, "dash": "dash"},
                # What lies at one L0 has a line all the same.
                "x": short([0.9 * ends[0], 1.1 * ends[1]], 5),
                "y": short([figures[metric].mean] * 2, 5),
            }


def _traces(
    groups: list[Group], number: int, sae: str, metric: str, role: Role
) -> Iterator[dict[str, Any]]:
    points: list[tuple[MeanStd, MeanStd]] = []
    published: list[tuple[float, Any]] = []
    for group in groups:
        figures = group.saes.get(sae, {})
        if metric in figures and "sae_l0" in figures:
            points.append((figures["sae_l0"], figures[metric]))
            if figures[metric].published is not None and group.l0 is not None:
                published.append((group.l0, figures[metric].published))
    points.sort(key=lambda point: point[0].mean)
    if points:
        yield {
            **named(number, sae),
            "type": "scatter",
            "mode": "lines+markers",
            "marker": {
                "color": color(number),
                "symbol": symbol(number) + ("" if role == "trained" else "-open"),
                "size": 7,
            },
            "line": {"color": color(number), "width": 1.5},
            "x": short([l0.mean for l0, _ in points], 5),
            "error_x": {**BAR, "array": short([l0.std or 0.0 for l0, _ in points], 2)},
            "y": short([figure.mean for _, figure in points], 5),
            "error_y": {**BAR, "array": short([figure.std or 0.0 for _, figure in points], 2)},
        }
    if published:
        yield {
            **named(number, sae),
            "type": "scatter",
            "mode": "markers",
            "hovertemplate": "published: %{y}<extra>%{fullData.name}</extra>",
            "marker": {
                "symbol": "diamond-open",
                "size": 11,
                "color": color(number),
                "line": {"width": 1.5},
            },
            "x": [l0 for l0, _ in published],
            "y": short([each.mean for _, each in published], 6),
            "error_y": {**BAR, "array": short([each.std for _, each in published], 3)},
        }
