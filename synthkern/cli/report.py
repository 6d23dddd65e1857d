"""The command ``report``: what a benchmark directory holds, to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthkern.storage.files import check_writable_file
from synthkern.storage.paths import as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.best import DEFAULT_BEST
from synthkern.suite.database import Run
from synthkern.suite.export import check_parquet, write_csv, write_json, write_parquet
from synthkern.suite.report import (
    check_images,
    read_report_data,
    read_sweeps,
    write_images,
    write_page,
)
from synthkern.suite.report.sweeps import SweepReport
from synthkern.suite.sweep_text import best_text, view_text
from synthkern.suite.view import ViewOptions

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
        choices=("csv", "json", "parquet"),
        action="append",
        default=[],
        help="write all runs into DIR/runs.csv, DIR/runs.json or DIR/runs.parquet (extra "
        "'parquet') as well; may come again",
    )
    report.add_argument("--suite", metavar="NAME", help="only the runs of this suite")
    _add_sweep(report)
    report.set_defaults(run=_report)


def _add_sweep(report: argparse.ArgumentParser) -> None:
    sweep = report.add_argument_group(
        "what of a sweep is looked at",
        "Names are those of varied fields and of figures, as exports have them or as tables head "
        "them: hidden_dim, lr, sae, l0 (that was asked for), sae_l0 (that came out), mcc, f1. "
        "The page has all of them to choose from, and begins with these.",
    )
    sweep.add_argument(
        "--x", metavar="NAME", help="to the right; default: the first varied field that is a number"
    )
    sweep.add_argument(
        "--y",
        metavar="NAME",
        action="append",
        default=[],
        help="up; may come again, for more panels; default: the tables' metrics",
    )
    sweep.add_argument(
        "--colour", "--color", metavar="NAME", help="in colours, or 'none'; default: sae"
    )
    sweep.add_argument("--facet", metavar="NAME", help="in panels of their own; default: none")
    sweep.add_argument(
        "--best",
        metavar="SEARCH",
        help='the settings to list, such as "mcc where l0 within 5%% of 25" or "lowest '
        'dead_latents where f1 > 0.8 and hidden_dim <= 256"; figures are means over seeds, l0 is '
        f'the one that came out; default: "{DEFAULT_BEST}"'.replace("5% of asked", "5%% of asked"),
    )
    sweep.add_argument(
        "--text",
        action="store_true",
        help="print the sweep as tables instead of writing a page; needs no extra",
    )


def _report(options: argparse.Namespace) -> int:
    if options.text and (options.figures is not None or options.out is not None):
        raise ValueError("--text writes no page: leave out --out and --figures")
    if options.figures is not None:
        check_images(options.figures)
    if "parquet" in options.export:
        check_parquet()
    directory = as_path("DIR", options.directory)
    contents = read_report_data(directory, options.suite)
    view = ViewOptions(options.x, tuple(options.y), options.colour, options.facet)
    sweeps = read_sweeps(contents, view, options.best, every=options.text)
    path = directory / PAGE_FILENAME if options.out is None else _page(options.out)
    folder = directory / FIGURES_DIRECTORY
    exports = {ending: directory / f"runs.{ending}" for ending in options.export}
    # Whatever cannot be written is better known before than after.
    for file in (*(() if options.text else (path,)), *exports.values()):
        check_writable_file(file)
    if options.figures is not None:
        check_writable_folder(folder)
    if options.text:
        texts = [_text(sweep, several=len(sweeps) > 1) for sweep in sweeps]
        print("\n\n".join(texts or [_nothing(contents.runs)]))
    else:
        write_page(contents, path, sweeps)
        print(path)
    if options.figures is not None:
        for drawn in write_images(contents, folder, options.figures, sweeps):
            print(drawn)
    for ending, path in exports.items():
        if ending == "csv":
            write_csv(path, contents.runs)
        elif ending == "parquet":
            write_parquet(path, contents.runs)
        else:
            write_json(path, contents.database)
        print(path)
    return 0


def _nothing(runs: Sequence[Run]) -> str:
    """Why there is no sweep of these runs."""
    if any(run.state == "done" for run in runs):
        return "no run but floors and ceilings is done yet; these are in the page's tables"
    return "no run is done yet"


def _text(report: SweepReport, *, several: bool) -> str:
    """A sweep's tables and its best settings."""
    parts = [report.suite] if several else []
    parts.append(view_text(report.sweep, report.view))
    if report.search is not None:
        parts.append(best_text("--best", report.sweep, report.search))
    return "\n\n".join(parts)


def _page(out: str) -> Path:
    """The page's file: in a folder that is there, or that the name says by a "/" at its end."""
    path = as_path("--out", out)
    return path / PAGE_FILENAME if out.endswith("/") or path.is_dir() else path
