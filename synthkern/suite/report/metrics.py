"""Each figure of the tables against the measured L0."""

from __future__ import annotations

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import FigureSpec, Panel, Series, short
from synthkern.suite.summary import TABLE_METRICS, Group, MeanStd

_BAR = {"type": "data", "thickness": 1.2, "width": 3}

METRICS = FigureSpec(
    name="metrics",
    title="Metrics against L0",
    caption="Means over seeds at the measured L0; bars are standard deviations over seeds. Where "
    "something was published, hollow diamonds show it at the L0 that was asked for.",
    layers={
        "mean": {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "@label",
            "marker": {"color": "@color", "symbol": "@symbol", "size": 7},
            "line": {"color": "@color", "width": 1.5},
            "error_x": _BAR,
            "error_y": _BAR,
        },
        "published": {
            "type": "scatter",
            "mode": "markers",
            "name": "@label",
            "hovertemplate": "published: %{y}<extra>%{fullData.name}</extra>",
            "marker": {
                "symbol": "diamond-open",
                "size": 11,
                "color": "@color",
                "line": {"width": 1.5},
            },
            "error_y": _BAR,
        },
    },
    axes=({"title": {"text": "L0"}, "hoverformat": ".2f"}, {"hoverformat": ".4f"}),
)


def metric_panels(contents: ReportData) -> dict[tuple[str, str], list[Panel]]:
    """For every suite and world with a finished run a panel per metric."""
    groups: dict[tuple[str, str], list[Group]] = {}
    for group in contents.groups:
        groups.setdefault((group.suite, group.world), []).append(group)
    found = {place: _panels(contents, of_place) for place, of_place in groups.items()}
    return {place: panels for place, panels in found.items() if panels}


def _panels(contents: ReportData, groups: list[Group]) -> list[Panel]:
    panels = []
    for metric, heading in TABLE_METRICS.items():
        if metric != "sae_l0":
            series = [
                each
                for number, sae in enumerate(contents.saes)
                for each in _series(groups, number, sae, metric)
            ]
            if series:
                panels.append(Panel(heading, series))
    return panels


def _series(groups: list[Group], number: int, sae: str, metric: str) -> list[Series]:
    points: list[tuple[MeanStd, MeanStd]] = []
    published: list[tuple[float, MeanStd]] = []
    for group in groups:
        figures = group.saes.get(sae, {})
        if metric in figures and "sae_l0" in figures:
            points.append((figures["sae_l0"], figures[metric]))
            if figures[metric].published is not None and group.l0 is not None:
                published.append((group.l0, figures[metric]))
    if not points:
        return []
    points.sort(key=lambda point: point[0].mean)
    values = {
        "x": short([l0.mean for l0, _ in points], 5),
        "error_x.array": short([l0.std or 0.0 for l0, _ in points], 2),
        "y": short([figure.mean for _, figure in points], 5),
        "error_y.array": short([figure.std or 0.0 for _, figure in points], 2),
    }
    found = [Series("mean", number, values)]
    known = [(l0, figure.published) for l0, figure in published if figure.published]
    if known:
        values = {
            "x": [l0 for l0, _ in known],
            "y": short([each.mean for _, each in known], 6),
            "error_y.array": short([each.std for _, each in known], 3),
        }
        found.append(Series("published", number, values))
    return found
