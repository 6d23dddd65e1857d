"""The figures of a report as image files."""

from __future__ import annotations

import math
import re
import textwrap
from itertools import chain, count
from pathlib import Path
from typing import Any

from synthkern.plots.figure import check_ending, finish, plotly
from synthkern.storage.files import make_folder
from synthkern.storage.paths import AnyPath, as_path
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import LOGARITHM, Figure, label, style, trace
from synthkern.suite.report.figures import figures
from synthkern.suite.summary import place_name

#: Pixels of an image, of a panel's height, of a line of its names, and of a letter of the legend.
_WIDTH, _HEIGHT, _LINE, _LETTER = 1080, 250, 34, 7

#: Letters of a line of text.
_COLUMNS = 160

#: Pixels of the file for one of these.
_SCALE = 2

#: Pixels above, below and between panels, whatever their height.
_ABOVE, _BELOW, _BETWEEN = 130, 60, 95


def check_images(ending: str) -> None:
    """Refuse what :func:`write_images` could not do, before there is work to lose.

    Raises:
        ImportError: where plotly or kaleido is not installed; it names the extra.
    """
    plotly("subplots")
    check_ending("ending", Path(f"figure.{ending}"))


def write_images(contents: ReportData, folder: AnyPath, ending: str) -> list[Path]:
    """Draw each figure of a report into a file of its own; gives the files.

    Args:
        contents: the runs.
        folder: where the files go; what is there under the same names is replaced.
        ending: "png", "svg" or another that kaleido can write.

    Raises:
        ImportError: where plotly or kaleido is not installed; it names the extra.
        OSError: naming the file that could not be drawn.
    """
    check_images(ending)
    place = as_path("folder", folder)
    make_folder(place)
    written: dict[Path, None] = {}
    for each in figures(contents):
        # The same name again next time, so that a newer image takes the place of an older one.
        names = chain([""], (f"-{number}" for number in count(2)))
        paths = (place / f"{_name(each)}{more}.{ending}" for more in names)
        path = next(path for path in paths if path not in written)
        finish(drawn(contents, each), path, False, _SCALE)
        written[path] = None
    return list(written)


def drawn(contents: ReportData, figure: Figure) -> Any:
    """A figure as plotly's, two panels beside one another."""
    kind, panels = figure.kind, figure.panels
    names = contents.saes if kind.legend == "saes" else contents.hardware
    styles = [style(number, name) for number, name in enumerate(names)]
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    # Panels with lines are alone.
    height = rows * (_LINE * panels[0].lines if panels[0].lines else _HEIGHT)
    height += (rows - 1) * _BETWEEN
    result = plotly("subplots").make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[label(panel.title, 60) for panel in panels],
        vertical_spacing=_BETWEEN / height if rows > 1 else None,
        horizontal_spacing=0.1,
    )
    named: set[int] = set()
    for index, panel in enumerate(panels):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for series in panel.series:
            first = series.layer == "mean" and series.style not in named and not kind.named
            if first:
                named.add(series.style)
            attributes = trace(kind, series, styles)
            result.add_trace({**attributes, "showlegend": first}, **place)
        across, up = (
            {"title_standoff": 8, **(LOGARITHM if panel.log == letter else {}), **axis}
            for letter, axis in zip("xy", kind.axes, strict=True)
        )
        result.update_xaxes(across, **place)
        result.update_yaxes(up, **place)
    where = place_name(figure.world, figure.l0) if kind.by_l0 else figure.world
    below = _BELOW + _legend_height([styles[number]["label"] for number in named])
    result.update_layout(
        template="plotly_white",
        title={
            "text": label(f"{kind.title}: {where} ({figure.suite})", 100) + _small(kind.caption),
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 24},
        },
        width=_WIDTH,
        height=_ABOVE + height + below,
        margin={"t": _ABOVE, "b": below, "l": 70, "r": 30},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
        },
    )
    return result


def _small(text: str) -> str:
    """Lines below a title."""
    lines = "<br>".join(textwrap.wrap(text, _COLUMNS))
    return f'<br><span style="font-size:12px">{lines}</span>'


def _legend_height(labels: list[str]) -> int:
    """About what entries beside and below one another take."""
    if not labels:
        return 0
    width = 50 + _LETTER * max(map(len, labels))
    return 15 + 20 * math.ceil(len(labels) / max(1, _WIDTH // width))


def _name(figure: Figure) -> str:
    """Of its file, of characters that every file system takes."""
    parts = [figure.kind.name, figure.suite, figure.world]
    if figure.kind.by_l0 and figure.l0 is not None:
        parts.append(f"l0-{figure.l0:g}")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")[:120]
