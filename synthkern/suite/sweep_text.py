"""A sweep as plain text: tables of figures by fields, and the best settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from synthkern.suite.best import Search, best_settings, shown_variables
from synthkern.suite.sweep import Sweep, Value, Variable
from synthkern.suite.tables import layout, terminal_width
from synthkern.suite.view import View, words

#: Decimals of figures that are not shares, by name.
DECIMALS = {
    "sae_l0": 2,
    "true_l0": 2,
    "dead_latents": 1,
    "seconds": 1,
    "samples_per_second": 0,
}

#: Lines of a table; of more values of x, as many intervals.
_MOST_LINES, _INTERVALS = 24, 8

#: A row: its name, and what it says by column.
_Row = tuple[str, Mapping[str, str]]


def view_text(sweep: Sweep, view: View, *, width: int | None = None) -> str:
    """A table for each panel of a view, with a line for each x and a column for each colour.

    A cell has the mean ± standard deviation over seeds; where settings differ in more than what is
    shown, from the lowest of their means to the highest, and how many there are. Many numbers on x
    are taken together in intervals that have about as many settings each.

    Args:
        sweep: the settings.
        view: of them; where colours are a scale, all are in one column.
        width: columns to keep to; None is the terminal's.
    """
    width = width or terminal_width()
    panels = (panel for panel in view.panels() if panel[2])
    return "\n\n".join("\n".join(_panel(view, *panel, width)) for panel in panels)


def best_text(
    option: str, sweep: Sweep, search: Search, *, most: int = 10, width: int | None = None
) -> str:
    """The best settings, with their fields and figures.

    Args:
        option: that asked for it, for errors.
        sweep: the settings.
        search: what is looked for.
        most: how many are shown.
        width: columns to keep to; None is the terminal's.

    Raises:
        ValueError: naming the option, where no run has a figure that is named.
    """
    width = width or terminal_width()
    rows = best_settings(option, sweep, search)
    figures = shown_variables(option, sweep, search)
    fields = sweep.fields
    headings = {each.name: each.heading.replace(" ", "\n", 1) for each in (*fields, *figures)}
    headings["runs"] = "runs"
    lines = textwrap.wrap(f"{search}: {len(rows):,} of {len(sweep.counts):,} settings", width)
    shown: list[_Row] = []
    for rank, row in enumerate(rows[:most], 1):
        cells = {each.name: words(each.values[row]) for each in fields}
        cells |= {each.name: figure_words(each, row) for each in figures}
        shown.append((str(rank), {**cells, "runs": str(sweep.counts[row])}))
    return "\n".join([*lines, "", *layout(shown, headings, width)] if shown else lines)


def figure_words(figure: Variable, row: int) -> str:
    """A figure of a setting: its mean ± its standard deviation over seeds."""
    value = figure.values[row]
    if not isinstance(value, int | float):
        return "-"
    decimals = DECIMALS.get(figure.name, 4)
    std = figure.stds[row] if figure.stds else None
    return f"{value:,.{decimals}f}" + ("" if std is None else f" ± {std:,.{decimals}f}")


def _panel(view: View, title: str, y: Variable, rows: Sequence[int], width: int) -> Iterator[str]:
    yield title
    columns = {y.heading if name is None else name: found for _, name, found in view.series(rows)}
    headings = {name: name.replace(" ", "\n", 1) for name in columns}
    table: list[_Row] = []
    for name, there in _lines(view.x, rows):
        cells = {
            column: _cell(y, [row for row in found if row in there])
            for column, found in columns.items()
        }
        table.append((name, cells))
    yield from layout(table, headings, width)


def _lines(x: Variable, rows: Sequence[int]) -> Iterator[tuple[str, set[int]]]:
    """Names of lines, and the settings in each."""
    there = {x.values[row] for row in rows}
    values = [value for value in x.distinct if value in there]
    if len(values) <= _MOST_LINES or not x.is_number:
        for value in values:
            yield f"{x.heading} {words(value)}", {row for row in rows if x.values[row] == value}
        return
    order: dict[Value, int] = {value: number for number, value in enumerate(values)}
    size = -(-len(values) // _INTERVALS)
    for start in range(0, len(values), size):
        part = values[start : start + size]
        inside = {row for row in rows if start <= order[x.values[row]] < start + size}
        yield f"{x.heading} {words(part[0])} to {words(part[-1])}", inside


def _cell(y: Variable, rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return figure_words(y, rows[0])
    found = [value for row in rows if isinstance(value := y.values[row], int | float)]
    if not found:
        return "-"
    decimals = DECIMALS.get(y.name, 4)
    return f"{min(found):,.{decimals}f} to {max(found):,.{decimals}f} ({len(found)})"
