"""The figures of a report as image files."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from synthkern.plots.figure import check_ending, finish, plotly
from synthkern.storage.files import make_folder
from synthkern.storage.paths import AnyPath, as_path
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import Figure, label
from synthkern.suite.report.figures import figures
from synthkern.suite.report.parallel import parallel_plot
from synthkern.suite.report.sweeps import SweepReport, sweep_figure
from synthkern.suite.summary import place_name

#: Pixels of an image and of a letter of the legend.
_WIDTH, _LETTER = 1080, 7

#: Letters of a line of text.
_COLUMNS = 160

#: Pixels of the file for one of these.
_SCALE = 2

#: Pixels above and below the panels.
_ABOVE, _BELOW = 130, 60


def check_images(ending: str) -> None:
    """Refuse what :func:`write_images` could not do, before there is work to lose.

    Raises:
        ImportError: where plotly or kaleido is not installed; it names the extra.
    """
    plotly("graph_objects")
    check_ending("ending", Path(f"figure.{ending}"))


def write_images(
    contents: ReportData, folder: AnyPath, ending: str, sweeps: Sequence[SweepReport] = ()
) -> list[Path]:
    """Draw each figure of a report into a file of its own; gives the files.

    Args:
        contents: the runs.
        folder: where the files go; what is there under the same names is replaced.
        ending: "png", "svg" or another that kaleido can write.
        sweeps: what is drawn before the others.

    Raises:
        ImportError: where plotly or kaleido is not installed; it names the extra.
        OSError: naming the file that could not be drawn.
    """
    check_images(ending)
    place = as_path("folder", folder)
    make_folder(place)
    written: dict[Path, None] = {}
    for name, figure in _all(contents, sweeps):
        # The same name again next time, so that a newer image takes the place of an older one.
        names = chain([""], (f"-{number}" for number in count(2)))
        paths = (place / f"{name}{more}.{ending}" for more in names)
        path = next(path for path in paths if path not in written)
        finish(figure, path, False, _SCALE)
        written[path] = None
    return list(written)


def _all(contents: ReportData, sweeps: Sequence[SweepReport]) -> Iterator[tuple[str, Any]]:
    """Names of files, and figures as plotly's."""
    for sweep in sweeps:
        figure = sweep_figure(sweep)
        if figure.panels:
            yield _name(figure), drawn(figure)
            yield _plain("parallel", sweep.suite), drawn_parallel(sweep)
    for figure in figures(contents):
        yield _name(figure), drawn(figure)


def drawn_parallel(report: SweepReport) -> Any:
    """Fields and figures of a sweep beside each other, as plotly's."""
    plot = parallel_plot(report.sweep, report.view.y[0])
    result = plotly("graph_objects").Figure(plot["data"], plot["layout"])
    title = label(f"Fields and metrics together ({report.suite})", 100)
    result.update_layout(
        template="plotly_white", title={"text": title}, width=_WIDTH, height=520, margin={"t": 150}
    )
    return result


def drawn(figure: Figure) -> Any:
    """A figure as plotly's, with what the page says beside it."""
    kind, plot = figure.kind, figure.plot()
    result = plotly("graph_objects").Figure(plot["data"], plot["layout"])
    world = figure.world or "all worlds"
    where = place_name(world, figure.l0) if kind.by_l0 else world
    where = f": {where}" if where else ""
    below = _BELOW + _legend_height([label(name) for name in figure.legend().values()])
    result.update_layout(
        template="plotly_white",
        title={
            "text": label(f"{kind.title}{where} ({figure.suite})", 100) + _small(kind.caption),
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 24},
        },
        width=_WIDTH,
        height=_ABOVE + result.layout.height + below,
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
    return _plain(*parts)


def _plain(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-.")[:120]
