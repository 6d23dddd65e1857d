"""The figures of a report as image files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from synthkern.plots.figure import check_arguments, finish, plotly
from synthkern.suite.report.contents import Contents
from synthkern.suite.report.figure import LOGARITHM, Figure, style, trace
from synthkern.suite.report.figures import figures
from synthkern.suite.summary import place_name

#: Pixels of a panel.
_WIDTH, _HEIGHT = 470, 300


def write_images(contents: Contents, folder: Path, ending: str) -> list[Path]:
    """Draw each figure of a report into a file of its own; gives the files.

    Args:
        contents: the runs.
        folder: where the files go.
        ending: "png", "svg" or another that kaleido can write.

    Raises:
        ImportError: where plotly or kaleido is not installed; it names the extra.
        OSError: naming the file that could not be drawn.
    """
    written: list[Path] = []
    check_arguments(
        title=None,
        height=_HEIGHT,
        width=_WIDTH,
        save_path=folder / f"figure.{ending}",
        show_plot=False,
        scale=2,
    )
    for each in figures(contents):
        path = folder / f"{len(written) + 1:02}-{_name(each)}.{ending}"
        finish(drawn(contents, each), path, False, 2)
        written.append(path)
    return written


def drawn(contents: Contents, figure: Figure) -> Any:
    """A figure as plotly's, two panels beside one another."""
    names = contents.saes if figure.kind.legend == "saes" else contents.hardware
    styles = [style(number, name) for number, name in enumerate(names)]
    columns = min(2, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    result = plotly("subplots").make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[style(0, panel.title)["label"] for panel in figure.panels],
        vertical_spacing=0.28 / rows,
        horizontal_spacing=0.12,
    )
    shown: set[int] = set()
    for index, panel in enumerate(figure.panels):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for series in panel.series:
            attributes = trace(figure.kind, series, styles)
            named = series.layer == "mean" and series.style not in shown
            attributes["showlegend"] = named and not figure.kind.named
            if named:
                shown.add(series.style)
            result.add_trace(attributes, **place)
        across, up = figure.kind.axes
        result.update_xaxes({**(LOGARITHM if panel.log == "x" else {}), **across}, **place)
        result.update_yaxes({**(LOGARITHM if panel.log == "y" else {}), **up}, **place)
    where = place_name(figure.world, figure.l0) if figure.kind.by_l0 else figure.world
    title = style(0, f"{figure.kind.title}: {where} ({figure.suite})")["label"]
    result.update_layout(
        template="plotly_white",
        title_text=title,
        width=_WIDTH * columns + 200,
        height=_HEIGHT * rows + 120,
        margin={"t": 90, "r": 200},
    )
    return result


def _name(figure: Figure) -> str:
    """Of its file, of characters that every file system takes."""
    parts = [figure.kind.name, figure.suite, figure.world]
    if figure.kind.by_l0 and figure.l0 is not None:
        parts.append(f"l0-{figure.l0:g}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")[:120]
