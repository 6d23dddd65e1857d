"""All varied fields and figures of a sweep beside each other, a line for each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from synthkern.suite.report.figure import label, short, wide
from synthkern.suite.sweep import Sweep, Variable
from synthkern.suite.view import default_y, words

#: Axes; more have no room beside each other.
_MOST = 12

#: Values of a field above which they are a scale and not places of their own.
_PLACES = 10

#: Letters of a label: an axis has little room for it.
_LETTERS = 20


def parallel_plot(sweep: Sweep, colour: Variable) -> dict[str, Any]:
    """The plot as plotly has it: data and layout.

    Args:
        sweep: its settings; those without one of the figures are left out.
        colour: the figure that gives lines their colours.
    """
    names = dict.fromkeys([colour.name, *default_y(sweep), "sae_l0"])
    figures = [sweep.variables[name] for name in names if name in sweep.variables]
    fields = sweep.fields[: _MOST - 2]
    figures = [each for each in figures if not each.is_field][: _MOST - len(fields)]
    rows = [
        row
        for row in range(len(sweep.counts))
        if all(each.values[row] is not None for each in figures) and colour.values[row] is not None
    ]
    trace = {
        "type": "parcoords",
        "line": {
            "color": [colour.values[row] for row in rows],
            "colorscale": "Viridis",
            "showscale": True,
            "colorbar": {"title": {"text": label(colour.heading)}, "thickness": 12},
        },
        "dimensions": [_dimension(each, rows) for each in (*fields, *figures)],
        "labelangle": -12,
    }
    layout = {"height": 420, "margin": {"t": 70, "r": 24, "b": 30, "l": 130}}
    return {"data": [trace] if rows else [], "rows": rows, "layout": layout}


def _dimension(variable: Variable, rows: Sequence[int]) -> dict[str, Any]:
    values = [variable.values[row] for row in rows]
    distinct = variable.distinct
    heading = label(variable.heading, _LETTERS)
    if not variable.is_number or (variable.is_field and len(distinct) <= _PLACES):
        # Places of their own, also for what has none.
        places = [*([None] if None in values else []), *distinct]
        number = {value: place for place, value in enumerate(places)}
        return {
            "label": heading,
            "values": [number[value] for value in values],
            "tickvals": list(number.values()) if len(places) <= 40 else [],
            "ticktext": [label(words(value), _LETTERS) for value in places[:40]],
        }
    numbers = [value for value in distinct if isinstance(value, int | float)]
    if wide(numbers):
        return {"label": heading, **_logarithmic(values, numbers)}
    return {"label": heading, "values": _filled(values, min(numbers), max(numbers))}


def _logarithmic(values: Sequence[Any], numbers: Sequence[float]) -> dict[str, Any]:
    """What plotly has no such axis for: logarithms, with ticks that say what they are of."""
    low, high = math.log10(min(numbers)), math.log10(max(numbers))
    ticks = [
        digit * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in (1, 3)
    ]
    shown = [tick for tick in ticks if low <= math.log10(tick) <= high]
    logs = [None if value is None else math.log10(value) for value in values]
    return {
        "values": short(_filled(logs, low, high), 5),
        "tickvals": short([math.log10(tick) for tick in shown], 5),
        "ticktext": [f"{tick:g}" for tick in shown],
    }


def _filled(values: Sequence[Any], low: float, high: float) -> list[Any]:
    """Values with those that are not there below all others."""
    below = low - 0.08 * ((high - low) or 1.0)
    return [below if value is None else value for value in values]
