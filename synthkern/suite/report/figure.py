"""Figures as data: the page draws them, and :mod:`synthkern.suite.report.images` does.

What all figures of a kind share is said once, in :class:`FigureSpec`; a figure itself is little
more than its numbers. :func:`trace` puts the two together, here as in ``figures.js``.
"""

from __future__ import annotations

import copy
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Colours that can be told apart by most, on a light ground and on a dark one.
COLORS = (
    "#3b82c4",
    "#d9822b",
    "#2f9e6e",
    "#c44e8a",
    "#8a6fd1",
    "#b8962e",
    "#1aa3b5",
    "#d1574d",
    "#7a8c3a",
    "#8b8b95",
)

#: Symbols of points; the next one where the colours begin again.
SYMBOLS = ("circle", "square", "triangle-up", "cross", "x", "star", "pentagon", "hexagram")

#: Of an axis that is a logarithm: ticks whose labels are whole numbers of themselves.
LOGARITHM = {
    "type": "log",
    "tickmode": "array",
    "tickvals": [float(f"{digit}e{power}") for power in range(-12, 16) for digit in (1, 3)],
    "tickformat": "~g",
}

#: Opacity of a cell's colour, by its share of the largest value: what is rare can still be seen.
_OPACITIES = ((0.0, 0.0), (0.0005, 0.15), (0.01, 0.3), (0.1, 0.55), (0.3, 0.75), (1.0, 1.0))


@dataclass(frozen=True)
class FigureSpec:
    """What figures of a kind have in common.

    Attributes:
        name: in files' names.
        title: above the figure.
        caption: below the title: what is seen.
        legend: whose colours these are: "saes" or "hardware".
        layers: attributes of plotly traces, by the names that series choose them by. Texts that
            begin with "@" stand for a part of a style.
        axes: attributes of the axes x and y.
        named: whether each panel is of one SAE, which its title names, so that there is no legend.
        by_l0: whether there is one for each L0 that was asked for.
    """

    name: str
    title: str
    caption: str
    layers: Mapping[str, Mapping[str, Any]]
    axes: tuple[Mapping[str, Any], Mapping[str, Any]]
    legend: str = "saes"
    named: bool = False
    by_l0: bool = False


@dataclass(frozen=True)
class Series:
    """What one trace has for itself.

    Attributes:
        layer: of the kind's.
        style: number of the name whose colour it has.
        values: attributes of the trace, by dotted paths.
    """

    layer: str
    style: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        series: what is drawn, in this order.
        log: the axis that is a logarithm: "x" or "y".
        lines: how many names are below one another, where these make it high.
    """

    title: str
    series: Sequence[Series]
    log: str | None = None
    lines: int | None = None


@dataclass(frozen=True)
class Figure:
    """Panels of a suite and a world, and an L0 where the kind has one for each."""

    kind: FigureSpec
    suite: str
    world: str
    l0: float | None
    panels: Sequence[Panel]


def style(number: int, name: str) -> dict[str, Any]:
    """How what has a name is drawn: label, color, symbol, and a scale and a tint of the color."""
    color = COLORS[number % len(COLORS)]
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return {
        "label": label(name),
        "color": color,
        "symbol": SYMBOLS[number // len(COLORS) % len(SYMBOLS)],
        "tint": f"rgba({red},{green},{blue},0.14)",
        "scale": [[at, f"rgba({red},{green},{blue},{opacity})"] for at, opacity in _OPACITIES],
    }


def label(text: str, most: int = 120) -> str:
    """A text for a plotly figure, with its middle left out where it has more characters."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[most // 2 + 1 - most :]}"
    # plotly's texts are a kind of HTML, and formulas where there are dollars.
    return html.escape(text, quote=False).replace("$", "&#36;")


def trace(kind: FigureSpec, series: Series, styles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes of a series' plotly trace."""
    result: dict[str, Any] = _filled(kind.layers[series.layer], styles[series.style])
    for path, value in series.values.items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return result


def wide(values: Iterable[float]) -> bool:
    """Whether values go over more than a power of ten, so that a logarithm shows them better."""
    known = list(values)
    return 0 < 10 * min(known) < max(known)


def short(values: npt.ArrayLike, digits: int = 4) -> list[float | int | None]:
    """Numbers of so many significant digits, as JSON has them shortest; None what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    known = np.where(np.isfinite(array), array, 0.0)
    size = np.floor(np.log10(np.abs(known), where=known != 0, out=np.zeros_like(known)))
    # A double has no power of ten above 308.
    places = np.minimum(digits - 1 - size, 300)
    # Divided by powers of ten above 1, which are exact, so that the nearest number comes out.
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    rounded = np.round(known * up / down) * down / up
    found: list[float | int | None] = [
        int(each) if abs(each) < 1e15 and each.is_integer() else each for each in rounded.tolist()
    ]
    for index in np.flatnonzero(~np.isfinite(array)):
        found[index] = None
    return found


def _filled(attributes: Any, part: Mapping[str, Any]) -> Any:
    if isinstance(attributes, Mapping):
        return {name: _filled(value, part) for name, value in attributes.items()}
    if isinstance(attributes, str) and attributes.startswith("@"):
        return copy.deepcopy(part[attributes[1:]])
    return attributes
