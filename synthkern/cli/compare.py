"""The command that compares runs: of two directories, or of two SAEs."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthkern.cli.arguments import add_only
from synthkern.storage.paths import as_path
from synthkern.suite.comparison import compare_directories, compare_saes
from synthkern.suite.comparison_text import comparison_text
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.plan import select_runs
from synthkern.suite.summary import place_name


def add_compare_command(commands: Any) -> None:
    """Add "compare" to a parser's commands."""
    compare = commands.add_parser(
        "compare",
        help="say which differences between runs can be told from chance",
        usage="synthkern compare DIR_A DIR_B [--saes A B] [--only WORDS] [--suite NAME]\n"
        "       synthkern compare DIR --saes A B [--only WORDS] [--suite NAME]",
        description="Pair the finished runs of two directories of 'synthkern bench' by world, L0, "
        "seed and SAE, or those of two SAEs by world, L0 and seed, and print for each world and "
        "L0 the mean differences (the first's figures minus the second's), their 95% confidence "
        "intervals and a sentence on what can be told apart.",
    )
    compare.add_argument("directories", nargs="+", metavar="DIR", help="one with --saes, or two")
    compare.add_argument(
        "--saes",
        nargs=2,
        metavar=("A", "B"),
        help="compare the SAE A, of the first directory, with B, of the second or the same",
    )
    add_only(compare)
    compare.add_argument("--suite", metavar="NAME", help="runs of this suite")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    directories = [as_path("DIR", directory) for directory in options.directories]
    if len(directories) > 2:
        raise ValueError(f"DIR must be one directory or two, got {len(directories)}")
    sides = [_runs(directory, options.suite, options.only) for directory in directories]
    one = len(directories) == 1
    if options.saes is None:
        if one:
            raise ValueError(f"one DIR needs --saes with two of its SAEs: {_saes(sides[0])}")
        first, second = sides
        pairing = compare_directories(first, second)
    else:
        if one and options.saes[0] == options.saes[1]:
            raise ValueError(f"--saes must name two SAEs, got {options.saes[0]!r} twice")
        first = _of_sae(sides[0], options.saes[0], directories[0])
        second = _of_sae(sides[-1], options.saes[1], directories[-1])
        pairing = compare_saes(first, second)
    names = options.saes if one else [str(directory) for directory in directories]
    if not pairing.comparisons:
        raise ValueError(
            f"{names[0]} and {names[1]} have no finished runs of the same world, L0"
            f"{' and seed' if options.saes else ', seed and SAE'}: "
            f"{_finished(names[0], first)}, {_finished(names[1], second)}"
        )
    print(comparison_text(pairing, None if one else (names[0], names[1])))
    for name, runs in zip(names, (first, second), strict=True):
        left = Counter(run.state for run in runs if run.state != "done")
        if left:
            counts = ", ".join(f"{count} {state}" for state, count in left.items())
            print(f"\nnot compared, as they are not done: of {name} {counts}")
    return 0


def _runs(directory: Path, suite: str | None, words: Sequence[str]) -> list[Run]:
    database = RunDatabase(directory)
    suites = database.suites()
    if suite is not None and suite not in suites:
        raise ValueError(
            f"--suite must be one of {', '.join(suites)}, which {directory} has, got {suite!r}"
        )
    runs = database.runs(suite)
    if not runs:
        raise ValueError(f"{directory} has no runs yet")
    if not words:
        return runs
    try:
        chosen = {run.key for run in select_runs(runs, words)}
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    return [run for run in runs if run.key in chosen]


def _of_sae(runs: Sequence[Run], sae: str, directory: Path) -> list[Run]:
    found = [run for run in runs if run.sae == sae]
    if not found:
        raise ValueError(f"--saes must name SAEs of {directory}, {_saes(runs)}; got {sae!r}")
    return found


def _saes(runs: Sequence[Run]) -> str:
    return ", ".join(dict.fromkeys(run.sae for run in runs))


def _finished(name: str, runs: Sequence[Run]) -> str:
    """What a side has, in words."""
    done = [run for run in runs if run.state == "done"]
    if not done:
        return f"{name} has none"
    places = "; ".join(dict.fromkeys(place_name(run.world, run.l0) for run in done))
    seeds = ", ".join(map(str, sorted({run.seed for run in done})))
    return f"{name} has {_saes(done)} on {places} with seeds {seeds}"
