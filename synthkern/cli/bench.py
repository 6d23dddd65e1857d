"""The command that runs a suite and prints its tables."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from synthkern.cli.arguments import add_cache, add_only, as_count, cache_of
from synthkern.storage.paths import as_optional_path, as_path
from synthkern.suite.plugins import load_architectures
from synthkern.suite.suite import Suite, SuiteSAE, load_suite, suite_names
from synthkern.suite.summary import summarize
from synthkern.suite.supervisor import run_suite
from synthkern.suite.tables import tables


def add_bench_command(commands: Any) -> None:
    """Add "bench" to a parser's commands."""
    bench = commands.add_parser(
        "bench",
        help="train and measure a suite of SAEs and print the tables",
        description="Run a suite: worlds x SAEs x L0s x seeds. Run again, it skips what is done "
        "and continues what was cut off. Several processes may share one DIR.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    bench.add_argument(
        "suite", metavar="SUITE", help=f"{', '.join(suite_names())}, or a .yaml or .py file"
    )
    bench.add_argument("--out", metavar="DIR", help="of the results; bench-SUITE where not given")
    add_only(bench)
    bench.add_argument(
        "--sae",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with an SAE class that the suite gets as well; may come again",
    )
    bench.add_argument("--jobs", type=as_count, default=1, help="worker processes")
    bench.add_argument("--device", default="cpu", help="of worlds and SAEs")
    bench.add_argument(
        "--share-batches",
        action="store_true",
        help="train SAEs of one world, seed and batch size on the same batches, sampled once: the "
        "same results",
    )
    bench.add_argument(
        "--retry-failed", action="store_true", help="try runs again that failed before"
    )
    add_cache(bench)
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    out = as_optional_path("--out", options.out)
    files = [as_path("--sae", file) for file in options.sae]
    suite = _with_plugins(load_suite(options.suite), files)
    directory = out or Path(f"bench-{suite.name}")
    runs = run_suite(
        suite,
        directory,
        only=options.only,
        jobs=options.jobs,
        device=options.device,
        share_batches=options.share_batches,
        retry_failed=options.retry_failed,
        cache=cache_of(options),
    )
    print(tables(summarize(runs, suite.published)))
    print(f"\nResults are in {directory}: synthkern report {directory} draws them.")
    states = Counter(run.state for run in runs)
    if states["pending"] or states["running"]:
        print(f"{states['pending'] + states['running']} runs are being done by another process.")
    return 1 if states["failed"] else 0


def _with_plugins(suite: Suite, files: list[Path]) -> Suite:
    saes = {
        name: SuiteSAE(name, file.resolve()) for file in files for name in load_architectures(file)
    }
    return suite.with_saes(saes)
