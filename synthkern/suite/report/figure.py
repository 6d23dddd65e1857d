"""Figures as plotly's JSON, which the page and :mod:`synthkern.suite.report.images` show."""

from __future__ import annotations

import html
import math
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

#: Error bars.
BAR = {"type": "data", "thickness": 1.2, "width": 3}


@dataclass(frozen=True)
class Kind:
    """What figures of a kind have in common.

    Attributes:
        name: in files' names.
        title: above the figure.
        caption: below the title: what is seen.
        by_l0: whether there is one for each L0 that was asked for.
    """

    name: str
    title: str
    caption: str
    by_l0: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        traces: plotly's, in the order in which they are drawn; those of one name have its number
            as their ``legendgroup``, and the first of them is the one in a legend.
        x: attributes of the axis.
        y: likewise.
    """

    title: str
    traces: Sequence[dict[str, Any]]
    x: Mapping[str, Any]
    y: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """Panels of a suite and a world, and an L0 where the kind has one for each.

    Attributes:
        world: "" for a figure of all worlds of the suite.
        names: those of the legend, by number; none where the panels' titles are these.
        height: pixels of a panel.
    """

    kind: Kind
    suite: str
    world: str
    l0: float | None
    panels: Sequence[Panel]
    names: Sequence[str] = ()
    height: int = 290

    @property
    def title(self) -> str:
        """The kind's, and the L0 where there is one."""
        if not self.kind.by_l0 or self.l0 is None:
            return self.kind.title
        return f"{self.kind.title} at L0 = {self.l0:g}"

    def legend(self) -> dict[int, str]:
        """The names that are drawn, by number."""
        drawn = {int(trace["legendgroup"]) for panel in self.panels for trace in panel.traces}
        return {number: name for number, name in enumerate(self.names) if number in drawn}

    def plot(self) -> dict[str, Any]:
        """The figure as plotly has it, in rows of at most three panels."""
        columns = {1: 1, 2: 2, 4: 2}.get(len(self.panels), 3)
        rows = math.ceil(len(self.panels) / columns)
        data: list[dict[str, Any]] = []
        axes: dict[str, Any] = {}
        titles = []
        named: set[int] = set()
        for index, panel in enumerate(self.panels):
            number = str(index + 1) if index else ""
            x, y = f"x{number}", f"y{number}"
            axes[f"xaxis{number}"] = {"automargin": True, "nticks": 6, **panel.x}
            axes[f"yaxis{number}"] = {"automargin": True, "nticks": 6, **panel.y}
            titles.append(
                {
                    "text": f"<b>{label(panel.title, 60)}</b>",
                    "xref": f"{x} domain",
                    "yref": f"{y} domain",
                    "x": 0,
                    "y": 1,
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "yshift": 4,
                    "showarrow": False,
                }
            )
            for trace in panel.traces:
                first = trace["legendgroup"] not in named
                named.add(trace["legendgroup"])
                data.append({**trace, "xaxis": x, "yaxis": y, "showlegend": first})
        return {
            "data": data,
            "layout": {
                **axes,
                "annotations": titles,
                "grid": {
                    "pattern": "independent",
                    "rows": rows,
                    "columns": columns,
                    "xgap": 0.16,
                    "ygap": 0.36,
                },
                "height": rows * self.height,
                "margin": {"t": 24, "r": 16, "b": 40, "l": 48},
                "hovermode": "closest",
                "showlegend": bool(self.names),
            },
        }


def color(number: int) -> str:
    """The colour of a name."""
    return COLORS[number % len(COLORS)]


def symbol(number: int) -> str:
    """The symbol of a name's points."""
    return SYMBOLS[number // len(COLORS) % len(SYMBOLS)]


def tint(number: int, opacity: float) -> str:
    """The colour of a name, to be seen through."""
    red, green, blue = (int(color(number)[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def named(number: int, name: str) -> dict[str, Any]:
    """What says of a trace whose it is."""
    return {"name": label(name), "legendgroup": str(number)}


def label(text: str, most: int = 120) -> str:
    """A text for a plotly figure, with its middle left out where it has more characters."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[most // 2 + 1 - most :]}"
    # plotly's texts are a kind of HTML, and formulas where there are dollars.
    return html.escape(text, quote=False).replace("$", "&#36;")


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
