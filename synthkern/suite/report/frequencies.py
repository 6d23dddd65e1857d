"""How features fare by how often they fire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import BAR, Figure, Kind, Panel, color, named, short, symbol
from synthkern.suite.summary import Group

FREQUENCIES = Kind(
    name="by-frequency",
    title="True features by how often they fire",
    caption="Means over all true features of a bin, found or not: the F1 of the best latent that "
    "is matched to each, the share that some decoder row has a |cosine| of 0.8 or more with, and "
    "the |cosine| with the latent of the one-to-one assignment. Means over seeds; bars are "
    "standard deviations over seeds.",
    by_l0=True,
)

#: Panels: what of a bin they show.
_PANELS = {"F1": "f1", "coverage at |cosine| 0.8": "coverage/0.8", "MCC": "mcc"}

#: The bins that follow each other, as an axis has them; the last of all is a part of the first two.
_BINS = ("rarest", "2nd", "3rd", "4th", "most frequent")
_AXIS = {"title": {"text": "fifths of the features"}, "tickangle": 0}


def frequency_figures(contents: ReportData) -> Iterator[Figure]:
    """For every suite, world and L0 with a finished run that has bins."""
    for group in contents.groups:
        panels = []
        for title, figure in _PANELS.items():
            traces = [
                trace
                for number, sae in enumerate(contents.saes)
                for trace in _traces(group, number, sae, figure)
            ]
            if traces:
                panels.append(Panel(title, traces, _AXIS, {"rangemode": "tozero"}))
        if panels:
            yield Figure(FREQUENCIES, group.suite, group.world, group.l0, panels, contents.saes)


def _traces(group: Group, number: int, sae: str, figure: str) -> Iterator[dict[str, Any]]:
    found = group.saes.get(sae, {})
    there = {
        name: found[f"by_frequency/{place}/{figure}"]
        for place, name in enumerate(_BINS)
        if f"by_frequency/{place}/{figure}" in found
    }
    if there:
        yield {
            **named(number, sae),
            "type": "scatter",
            "mode": "lines+markers",
            "marker": {"color": color(number), "symbol": symbol(number), "size": 7},
            "line": {"color": color(number), "width": 1.5},
            "x": list(there),
            "y": short([each.mean for each in there.values()], 5),
            "error_y": {**BAR, "array": short([each.std or 0.0 for each in there.values()], 2)},
        }
