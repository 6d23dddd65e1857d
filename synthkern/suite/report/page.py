"""The report's page: one HTML file with everything in it."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import jinja2

from synthkern.plots.figure import plotly
from synthkern.storage.files import check_writable_file, write_atomically
from synthkern.storage.paths import AnyPath, as_path
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.payload import page_facts, page_payload

#: In the order in which they are run.
_SCRIPTS = ("elements.js", "tables.js", "results.js", "figures.js", "runs.js", "start.js")


def write_page(contents: ReportData, path: AnyPath) -> None:
    """Write the page; it needs nothing besides itself.

    Raises:
        ImportError: where plotly is not installed; it names the extra.
        OSError: where the file cannot be written.
    """
    file = as_path("path", path)
    check_writable_file(file)
    text = page(contents)

    def write(to: Path) -> None:
        # Names of files need not be text.
        to.write_text(text, encoding="utf-8", errors="replace")

    write_atomically(file, write)


def page(contents: ReportData) -> str:
    """The page's HTML."""
    library: str = plotly("offline").get_plotlyjs()
    # Every text of the data is escaped, in elements and in the script's JSON.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.from_string(_read("page.html")).render(
        style=_read("page.css"),
        library=library,
        directory=os.fsencode(contents.directory.resolve().name).decode("utf-8", "replace"),
        facts=page_facts(contents),
        data=page_payload(contents),
        script="\n".join(_read(name) for name in _SCRIPTS),
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
