"""The command ``report``: what a benchmark directory holds, to look at."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from synthkern.storage.files import check_writable_file
from synthkern.storage.paths import as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.export import write_csv, write_json
from synthkern.suite.report import check_images, read_report_data, write_images, write_page

#: Files in the directory, where nothing else is asked for.
PAGE_FILENAME = "report.html"
FIGURES_DIRECTORY = "figures"


def add_report_command(commands: Any) -> None:
    """Add the command to a parser's commands."""
    report = commands.add_parser(
        "report",
        help="write a page of a benchmark's results",
        description="Write one HTML file with the tables, figures and runs of a directory of "
        "'bench'; it opens without a network. Needs the extra 'plots', images the extra 'images'.",
    )
    report.add_argument("directory", metavar="DIR", help="that 'bench' wrote")
    report.add_argument(
        "--out",
        metavar="FILE",
        help=f"the page, or a folder that gets {PAGE_FILENAME}; default: DIR",
    )
    report.add_argument(
        "--figures",
        choices=("png", "svg"),
        help=f"draw the figures into DIR/{FIGURES_DIRECTORY} as well",
    )
    report.add_argument(
        "--export",
        choices=("csv", "json"),
        action="append",
        default=[],
        help="write all runs into DIR/runs.csv or DIR/runs.json as well; may be given twice",
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    if options.figures is not None:
        check_images(options.figures)
    directory = as_path("DIR", options.directory)
    contents = read_report_data(directory)
    path = directory / PAGE_FILENAME if options.out is None else _page(options.out)
    folder = directory / FIGURES_DIRECTORY
    exports = {ending: directory / f"runs.{ending}" for ending in options.export}
    # Whatever cannot be written is better known before than after.
    for file in (path, *exports.values()):
        check_writable_file(file)
    if options.figures is not None:
        check_writable_folder(folder)
    write_page(contents, path)
    print(path)
    if options.figures is not None:
        for drawn in write_images(contents, folder, options.figures):
            print(drawn)
    for ending, path in exports.items():
        if ending == "csv":
            write_csv(path, contents.runs)
        else:
            write_json(path, contents.database)
        print(path)
    return 0


def _page(out: str) -> Path:
    """The page's file: in a folder that is there, or that the name says by a "/" at its end."""
    path = as_path("--out", out)
    return path / PAGE_FILENAME if out.endswith("/") or path.is_dir() else path
