"""The report's page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from synthkern.plots.figure import plotly
from synthkern.storage.files import check_writable_file, write_atomically
from synthkern.storage.paths import AnyPath, as_path
from synthkern.suite.database import STATES
from synthkern.suite.report.contents import MOST_SAES, MOST_WORLDS, ReportData
from synthkern.suite.report.figure import Figure, color
from synthkern.suite.report.figures import KINDS, figures
from synthkern.suite.report.sweeps import (
    SWEEP,
    SweepReport,
    sweep_constants,
    sweep_payload,
)
from synthkern.suite.report.tables import FAR, best_table, result_table, run_table

#: Of the figures on a light page and on a dark one.
_TEMPLATES = {"light": "plotly_white", "dark": "plotly_dark"}


def write_page(contents: ReportData, path: AnyPath, sweeps: Sequence[SweepReport] = ()) -> None:
    """Write the page, with those sweeps; it needs nothing besides itself.

    Raises:
        ImportError: where plotly is not installed; it names the extra.
        OSError: where the file cannot be written.
    """
    file = as_path("path", path)
    check_writable_file(file)
    text = page(contents, sweeps)

    def write(to: Path) -> None:
        # Names of files need not be text.
        to.write_text(text, encoding="utf-8", errors="replace")

    write_atomically(file, write)


def page(contents: ReportData, sweeps: Sequence[SweepReport] = ()) -> str:
    """The page's HTML, with those sweeps."""
    library: str = plotly("offline").get_plotlyjs()
    results = result_table(contents)
    drawn: dict[tuple[str, str], list[Figure]] = {place: [] for place in results["rows"]}
    for figure in figures(contents):
        for suite, world in drawn:
            if suite == figure.suite and figure.world in ("", world):
                drawn[suite, world].append(figure)
    payloads = [
        packed({"rows": rows, "figures": [_shown(figure) for figure in drawn[place]]})
        for place, rows in results["rows"].items()
    ]
    worlds: dict[str, list[tuple[int, str]]] = {}
    for number, (suite, world) in enumerate(results["rows"]):
        worlds.setdefault(suite, []).append((number, world))
    # Every text of the data is escaped, in elements and in the script's JSON.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_read("page.html")).render(
        libraries=[library, _read("datatables-3.1.5.min.js")],
        style=_read("page.css"),
        scripts=[*([_read("sweep.js")] if sweeps else []), _read("page.js")],
        directory=os.fsencode(contents.directory.resolve().name).decode("utf-8", "replace"),
        facts=page_facts(contents),
        published="; ".join({text: None for each in contents.groups for text in each.sources}),
        far=FAR,
        kinds=KINDS,
        worlds=worlds,
        payloads=payloads,
        crowded=bool(contents.crowded()),
        most_saes=MOST_SAES,
        most_worlds=MOST_WORLDS,
        sweep=SWEEP if sweeps else None,
        sweeps={
            report.suite: packed({**sweep_payload(report), **_best(report)}) for report in sweeps
        },
        sweep_constants=packed(sweep_constants()),
        shared=packed(
            {
                "templates": {name: _template(of) for name, of in _TEMPLATES.items()},
                "columns": results["columns"],
                "runs": run_table(contents),
            }
        ),
    )


def packed(value: Any) -> str:
    """JSON, compressed, as text that has no meaning in HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _best(report: SweepReport) -> dict[str, Any]:
    found = f"{len(report.best):,} of {len(report.sweep.counts):,} settings"
    return {"best": {"search": f"{report.search}: {found}", **best_table(report)}}


def _shown(figure: Figure) -> dict[str, Any]:
    return {
        "kind": figure.kind.name,
        "title": figure.title,
        "by_l0": figure.kind.by_l0,
        "l0": figure.l0,
        "legend": [[str(n), name, color(n)] for n, name in figure.legend().items()],
        **figure.plot(),
    }


def _template(name: str) -> Any:
    """One of plotly's, through which the page's ground is seen."""
    template = plotly("io").templates[name].to_plotly_json()
    template["layout"] |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    return template


def page_facts(contents: ReportData) -> dict[str, list[str]]:
    """What is said above all: a name's texts, of many the first."""
    runs = contents.runs
    counts = Counter(run.state for run in runs)
    return {
        "Suites" if len(contents.suites) > 1 else "Suite": _some(contents.suites, 6),
        "Worlds": _some((run.world for run in runs), 6),
        "Runs": [f"{counts[state]:,} {state}" for state in STATES if counts[state]] or ["none"],
        "Code version": _some((run.code_version for run in runs), 4),
        "Stream version": _some((run.stream_version for run in runs), 4),
        "Hardware": _some(contents.hardware, 4),
    }


def _some(values: Iterable[Any], most: int) -> list[str]:
    known = [str(value) for value in dict.fromkeys(values) if value not in (None, "")]
    return known[:most] + [f"and {len(known) - most:,} more"] * (len(known) > most)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
