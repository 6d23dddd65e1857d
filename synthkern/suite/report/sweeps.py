"""Sweeps of a report: any field or figure against any other, all together, and the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synthkern.suite.best import DEFAULT_BEST, Search, best_settings, parse_search
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import (
    BAR,
    COLORS,
    LOGARITHM,
    SYMBOLS,
    Figure,
    Kind,
    Panel,
    color,
    label,
    named,
    short,
    symbol,
    tint,
    wide,
)
from synthkern.suite.report.parallel import parallel_plot
from synthkern.suite.sweep import Sweep, Variable, read_sweep
from synthkern.suite.view import (
    MOST_COLORS,
    MOST_NUMBERS,
    MOST_PANELS,
    View,
    ViewOptions,
    choose_view,
    default_y,
    words,
)

SWEEP = Kind(
    name="sweep",
    title="Sweep",
    caption="Means over seeds; bands and bars are standard deviations over seeds. A line joins "
    "settings that differ in nothing else.",
)

#: Opacity of a band.
_BAND = 0.16

#: Settings of a panel above which points have no bars.
_MOST_BARS = 100


@dataclass(frozen=True)
class SweepReport:
    """What is reported of a suite as a sweep.

    Attributes:
        suite: its name.
        sweep: its settings.
        view: of them.
        search: for the best, or None where there is nothing to look for.
        best: the settings that it finds.
    """

    suite: str
    sweep: Sweep
    view: View
    search: Search | None
    best: list[int]


def read_sweeps(
    contents: ReportData, options: ViewOptions, best: str | None = None, *, every: bool = False
) -> list[SweepReport]:
    """What is reported of the suites that vary fields, and of all where something is asked for.

    Args:
        contents: of the directory.
        options: of the view.
        best: what is looked for, as :func:`parse_search` reads it.
        every: whether suites that vary nothing are reported of as well; of one without a finished
            run there is nothing.

    Raises:
        ValueError: naming the option, where no suite has what it names.
    """
    named = options.is_given or best is not None
    given = None if best is None else parse_search("--best", best)
    found = []
    errors = []
    for suite in contents.suites:
        runs = [run for run in contents.runs if run.suite == suite]
        if not (named or every) and not any(run.axes and run.state == "done" for run in runs):
            continue
        sweep = read_sweep(runs)
        if not sweep.counts:
            if named:
                errors.append(ValueError(f"{suite} has nothing to look at: no run is done"))
            continue
        try:
            search = _default_search(sweep) if given is None else given
            found.append(
                SweepReport(
                    suite,
                    sweep,
                    choose_view(sweep, options),
                    search,
                    [] if search is None else best_settings("--best", sweep, search),
                )
            )
        except ValueError as error:
            errors.append(error)
    # What one suite has, another need not have.
    if errors and not found:
        raise errors[0]
    return found


def sweep_figure(report: SweepReport) -> Figure:
    """The view of a sweep, a panel for each figure and each value of the facet."""
    sweep = _shortened(report.sweep)
    view = report.view.of(sweep)
    colors = [] if view.colour is None or view.is_scale else view.colour.groups
    panels: list[Panel] = []
    for title, y, rows in view.panels():
        traces = list(_traces(sweep, view, y, rows, first=not panels))
        if traces:
            panels.append(Panel(title, traces, _axis(view.x), {"hoverformat": ".4~g"}))
    return Figure(SWEEP, report.suite, "", None, panels, [words(value) for value in colors])


def _axis(x: Variable) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": label(x.heading)}}
    if not x.is_number:
        return {**axis, "type": "category"}
    return {**axis, **(LOGARITHM if wide(x.distinct) else {})}  # type: ignore[arg-type]


def _traces(
    sweep: Sweep, view: View, y: Variable, rows: Sequence[int], *, first: bool
) -> Iterator[dict[str, Any]]:
    for number, name, found in view.series(rows):
        line = {
            **named(number, name or y.heading),
            "type": "scatter",
            "x": [view.x.values[row] for row in found],
            "y": [y.values[row] for row in found],
        }
        if view.is_scale:
            yield {**line, "mode": "markers", "marker": _scale(view.colour, found, first)}
        elif view.is_line(sweep, found):
            yield from _band(line, number, y, found)
        else:
            marker = {"color": color(number), "symbol": symbol(number), "size": 6, "opacity": 0.8}
            bars = {}
            if len(rows) <= _MOST_BARS:
                axes = {"error_y": y, "error_x": view.x}
                bars = {name: _bars(each, found) for name, each in axes.items() if each.stds}
            yield {**line, "mode": "markers", "marker": marker, **bars}


def _band(
    line: dict[str, Any], number: int, y: Variable, rows: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A line, and where there are several seeds the ends of a band around it."""
    yield {
        **line,
        "mode": "lines+markers",
        "marker": {"color": color(number), "symbol": symbol(number), "size": 6},
        "line": {"color": color(number), "width": 1.6},
    }
    spreads = [y.stds[row] or 0.0 for row in rows] if y.stds else []
    if any(spreads):
        end = {**line, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        yield {**end, "y": [a - b for a, b in zip(line["y"], spreads, strict=True)]}
        yield {
            **end,
            "y": [a + b for a, b in zip(line["y"], spreads, strict=True)],
            "fill": "tonexty",
            "fillcolor": tint(number, _BAND),
        }


def _bars(variable: Variable, rows: Sequence[int]) -> dict[str, Any]:
    return {**BAR, "array": [variable.stds[row] or 0 for row in rows]}


def _scale(colour: Variable | None, rows: Sequence[int], first: bool) -> dict[str, Any]:
    assert colour is not None
    return {
        "size": 6,
        "opacity": 0.85,
        "color": [colour.values[row] for row in rows],
        "colorscale": "Viridis",
        "cmin": colour.distinct[0],
        "cmax": colour.distinct[-1],
        "showscale": first,
        "colorbar": {"title": {"text": label(colour.heading)}, "thickness": 12},
    }


def sweep_payload(report: SweepReport) -> dict[str, Any]:
    """What the page needs to draw any view of a sweep."""
    sweep = _shortened(report.sweep)
    view = report.view.of(sweep)
    return {
        "suite": report.suite,
        "variables": [_packed(each) for each in sweep.variables.values()],
        "varied": [each.name for each in sweep.fields],
        "tables": default_y(sweep),
        "chosen": {
            "x": view.x.name,
            "y": [each.name for each in view.y],
            "colour": None if view.colour is None else view.colour.name,
            "facet": None if view.facet is None else view.facet.name,
        },
        "parallel": parallel_plot(sweep, view.y[0]),
    }


def sweep_constants() -> dict[str, Any]:
    """What all these drawings share."""
    return {
        "colors": COLORS,
        "tints": [tint(number, _BAND) for number in range(len(COLORS))],
        "symbols": SYMBOLS,
        "logarithm": LOGARITHM,
        "bar": BAR,
        "most": {
            "bars": _MOST_BARS,
            "panels": MOST_PANELS,
            "colors": MOST_COLORS,
            "numbers": MOST_NUMBERS,
        },
    }


def _packed(variable: Variable) -> dict[str, Any]:
    distinct, groups = variable.distinct, variable.groups
    few = groups if len(distinct) <= MOST_COLORS else []
    return {
        "name": variable.name,
        # As plotly takes it, and as it is.
        "heading": label(variable.heading),
        "plain": variable.heading,
        "field": variable.is_field,
        "number": variable.is_number,
        "distinct": distinct,
        "groups": groups,
        "labels": [label(words(value)) for value in few],
        "texts": [words(value) for value in few],
        "values": variable.values,
        "stds": variable.stds,
    }


def _shortened(sweep: Sweep) -> Sweep:
    """The same with figures of as many digits as can be seen."""
    variables: Mapping[str, Variable] = {
        name: each
        if each.is_field
        else replace(each, values=_short(each.values, 5), stds=_short(each.stds, 3))
        for name, each in sweep.variables.items()
    }
    return replace(sweep, variables=dict(variables))


def _short(values: Sequence[Any], digits: int) -> list[Any]:
    # None goes in as what is not finite, and comes out as None.
    return list(short([float("nan") if value is None else value for value in values], digits))


def _default_search(sweep: Sweep) -> Search | None:
    if "mcc" not in sweep.variables:
        return None
    asks = "sae_l0" in sweep.variables and any(sweep.variables["l0"].values)
    return parse_search("--best", DEFAULT_BEST if asks else "mcc")
