"""``synthkern bench`` killed with -9 again and again: does it end with the same figures?

    python benchmarks/kills.py
    python benchmarks/kills.py --suite my-suite.yaml --kills 3 --seed 1

The suite is done once in peace. Then it is begun in other directories, and the command and all its
worker processes are killed at random moments (while modules are loaded, the world is built,
checkpoints are written, SAEs are evaluated, ...) and started again until it is done. Every
directory must end with the figures, curves and latents of the run in peace, number for number, and
what was done before a kill must be as it was after it. Checkpoints are written every second, so
that much of the work goes on from one. Prints a table, and ends with status 1 where something
differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import command_line
from harness.process_tree import kill_tree
from harness.report import Table
from tqdm.auto import tqdm

from synthkern.suite.database import RunDatabase
from synthkern.suite.suite import SUITE_NAME, suite_names

#: Of the suite's own settings, with another time between checkpoints.
SUITE_FILE = """
from synthkern.suite.suite import Suite, load_suite
suite = load_suite({source!r})
training = {{**suite.training, "checkpoint_seconds": 1}}
{name} = Suite(**{{**vars(suite), "training": training}})
"""

#: About what it takes to start the command and a worker.
_START_SECONDS = 6.0

#: All that a finished run says apart from times: by what it is called.
Outcome = dict[str, Any]


@dataclass
class Directory:
    """A directory whose suite is killed until it is done.

    Attributes:
        kills: runs that were done at each kill.
        same: whether its runs are those of the one in peace; None before it is done.
    """

    path: Path
    kills: list[int] = field(default_factory=list)
    same: bool | None = None


def main() -> int:
    args = parse(__doc__, "kills", 50)
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        suite = root / "suite.py"
        suite.write_text(SUITE_FILE.format(source=args.suite, name=SUITE_NAME))
        peace, peace_seconds = root / "in-peace", time.monotonic()
        finish(suite, peace)
        peace_seconds = time.monotonic() - peace_seconds
        expected = outcomes(peace)
        # Some die before they can do anything, and most get on by a part of the suite.
        longest = _START_SECONDS + peace_seconds / 4
        directories: list[Directory] = []
        with tqdm(total=args.kills, desc="kills", unit="kill") as bar:
            while bar.n < args.kills:
                directories.append(Directory(root / f"killed-{len(directories)}"))
                while bar.n < args.kills and _killed(
                    suite, directories[-1], draw.uniform(0, longest), expected
                ):
                    bar.update()
                finish(suite, directories[-1].path)
                directories[-1].same = outcomes(directories[-1].path) == expected
    print(table(args.suite, directories, len(expected), peace_seconds))
    return 0 if all(directory.same for directory in directories) else 1


def outcomes(path: Path) -> dict[str, Outcome]:
    """What the finished runs of a directory say, by their keys."""
    database = RunDatabase(path)
    runs = database.runs(state="done")
    keys = [run.key for run in runs]
    curves = {
        key: [{k: v for k, v in row.items() if k != "samples_per_second"} for row in history.rows]
        for key, history in database.curves(keys)
    }
    latents = {
        key: {name: column.tobytes() for name, column in columns.items()}
        for key, columns in database.latents(keys)
    }
    return {
        run.key: {
            "metrics": run.metrics,
            "standard errors": run.standard_errors,
            "curves": curves[run.key],
            "latents": latents[run.key],
        }
        for run in runs
    }


def table(suite: str, directories: Sequence[Directory], runs: int, peace_seconds: float) -> Table:
    """A row for each directory."""
    kills = sum(len(directory.kills) for directory in directories)
    return Table(
        f"{suite}: {runs} runs, {peace_seconds:.0f} s in peace; {kills} kills",
        ("directory", "kills", "runs done at each", "the same"),
        [
            (
                directory.path.name,
                str(len(directory.kills)),
                " ".join(map(str, directory.kills)),
                "yes" if directory.same else "NO",
            )
            for directory in directories
        ],
    )


def _command(suite: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "synthkern", "bench", str(suite), "--out", str(out)]


def finish(suite: Path, out: Path, **environment: str) -> None:
    """Do a suite to its end."""
    done = subprocess.run(
        _command(suite, out),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the suite ended with status {done.returncode}: {done.stderr[-2000:]}")


def _killed(suite: Path, directory: Directory, after: float, expected: dict[str, Outcome]) -> bool:
    """Go on with a directory for some seconds and kill that; False where it is done before."""
    process = subprocess.Popen(
        _command(suite, directory.path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if process.wait(after) == 0:
            return False
        raise RuntimeError(f"the suite ended with status {process.returncode}")
    except subprocess.TimeoutExpired:
        kill_tree(process)
    if process.returncode != -signal.SIGKILL:
        return False
    found = outcomes(directory.path) if (directory.path / "suite.sqlite").exists() else {}
    for key, outcome in found.items():
        if outcome != expected[key]:
            raise RuntimeError(f"{directory.path}: run {key} differs after a kill")
    directory.kills.append(len(found))
    return True


def parse(doc: str | None, what: str, default: int) -> argparse.Namespace:
    """The suite, how many of ``what``, and the seed of the moments."""
    parser = command_line.parser(doc)
    parser.add_argument(
        "--suite", default="quick", help=f"{', '.join(suite_names())}, or a .yaml or .py file"
    )
    parser.add_argument(f"--{what}", type=int, default=default, help="how many, at least 1")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    count = vars(args)[what]
    if count < 1:
        parser.error(f"--{what} must be at least 1, got {count}")
    if args.suite not in suite_names():
        args.suite = str(Path(args.suite).resolve())
    return args


if __name__ == "__main__":
    raise SystemExit(main())
