"""The command that runs a suite and prints its tables."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synthkern.cli.arguments import add_cache, add_only, as_count, cache_of
from synthkern.storage.paths import as_optional_path, as_path
from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.estimate import Estimate, estimate, work
from synthkern.suite.executor import Executor
from synthkern.suite.plan_text import plan_text
from synthkern.suite.plugins import load_architectures
from synthkern.suite.ray_executor import RayExecutor
from synthkern.suite.search_run import trials_done
from synthkern.suite.search_text import best_text, search_text
from synthkern.suite.shards import as_shard
from synthkern.suite.suite import Suite, SuiteSAE, load_suite, suite_names
from synthkern.suite.summary import summarize
from synthkern.suite.supervisor import SuitePlan, plan_suite, run_plan
from synthkern.suite.tables import tables

#: Multiplications (:func:`work`) that take a minute or more on two cores: less is not measured
#: before it is done.
_WORTH_MEASURING = 5e11


def add_bench_command(commands: Any) -> None:
    """Add "bench" to a parser's commands."""
    bench = commands.add_parser(
        "bench",
        help="train and measure a suite of SAEs and print the tables",
        description="Run a suite: worlds x SAEs x L0s x seeds, or trials of a search. Run "
        "again, it skips what is done and continues what was cut off. Several processes may share "
        "one DIR.",
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
    bench.add_argument(
        "--jobs",
        type=as_count,
        help="worker processes; where not given as many as should be fastest on this machine",
    )
    bench.add_argument("--device", default="cpu", help="of worlds and SAEs")
    bench.add_argument(
        "--share-batches",
        action=argparse.BooleanOptionalAction,
        help="train SAEs of one world, seed and batch size on the same batches, sampled once: the "
        "same results; where not given as should be faster",
    )
    bench.add_argument(
        "--retry-failed", action="store_true", help="try runs again that failed before"
    )
    bench.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, with the time and memory that a short measurement suggests, "
        "and end",
    )
    bench.add_argument(
        "--shard",
        metavar="I/N",
        help="only the I-th of N parts of the runs, I from 1, for the jobs of an array that share "
        "one DIR",
    )
    bench.add_argument(
        "--wandb",
        metavar="PROJECT",
        help="log every run to this project of Weights & Biases: the suite is the group, what is "
        "varied are tags",
    )
    bench.add_argument(
        "--tensorboard",
        action="store_true",
        help="write every run's event files: tensorboard --logdir DIR/tensorboard shows them by "
        "suite and world",
    )
    add_cache(bench)
    ray = bench.add_argument_group("on a Ray cluster (extra ray)")
    ray.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="do the runs there: HOST:PORT, or without one as RAY_ADDRESS says, else the cluster "
        "that runs on this machine, else one that is started for this",
    )
    ray.add_argument("--cpus", type=as_count, default=1, help="threads of each run")
    ray.add_argument(
        "--gpus", type=float, help="share of a GPU for each run, such as 0.25; 1 with a GPU device"
    )
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    out = as_optional_path("--out", options.out)
    shard = None if options.shard is None else as_shard("--shard", options.shard)
    files = [as_path("--sae", file) for file in options.sae]
    suite = _with_logs(_with_plugins(load_suite(options.suite), files), options)
    directory = out or Path(f"bench-{suite.name}")
    plan = plan_suite(suite, options.only, shard, share_batches=bool(options.share_batches))
    text = _plan_text if suite.search is None else _search_text
    print(text(plan, directory, options), flush=True)
    if options.dry_run:
        return 0
    print(flush=True)
    runs = run_plan(
        plan,
        directory,
        jobs=options.jobs,
        device=options.device,
        share_batches=options.share_batches,
        retry_failed=options.retry_failed,
        executor=_executor(options),
        cache=cache_of(options),
    )
    if not runs:
        print(f"The suite has no run for part {options.shard}.")
        return 0
    print(tables(summarize(runs, suite.published)))
    if plan.searches:
        print(f"\n{best_text(plan.searches, runs)}")
    print(f"\nResults are in {directory}: synthkern report {directory} draws them.")
    states = Counter(run.state for run in runs)
    if others := states["pending"] + states["running"]:
        counted = "1 run is" if others == 1 else f"{others} runs are"
        print(f"{counted} being done by another process.")
    return 1 if states["failed"] else 0


def _with_logs(suite: Suite, options: argparse.Namespace) -> Suite:
    """The suite with its runs logged where that is asked for."""
    if options.wandb is not None and options.tensorboard:
        raise ValueError("--wandb and --tensorboard must not be given both: a run has one logger")
    logger: dict[str, Any] = {}
    if options.wandb is not None:
        logger = {"logger.log_to_wandb": True, "logger.wandb_project": options.wandb}
    elif options.tensorboard:
        logger = {"logger.log_to_tensorboard": True}
    return replace(suite, training={**suite.training, **logger})


def _executor(options: argparse.Namespace) -> Executor | None:
    """The cluster that was asked for."""
    if options.ray is not None:
        return RayExecutor(options.ray or None, cpus=options.cpus, gpus=options.gpus)
    for name, default in (("cpus", 1), ("gpus", None)):
        if getattr(options, name) != default:
            raise ValueError(f"--{name} must be given with --ray only")
    return None


def _plan_text(plan: SuitePlan, directory: Path, options: argparse.Namespace) -> str:
    """The plan in words, with what its runs take."""
    suite, chosen = plan.suite, plan.chosen
    jobs = 1
    if options.ray is None:
        jobs = plan.side_by_side(
            jobs=options.jobs, share_batches=options.share_batches, device=options.device
        ).jobs
    try:
        states = {run.key: run.state for run in RunDatabase(directory).runs(suite.name)}
    except FileNotFoundError:
        states = {}
    over = ("done",) if options.retry_failed else ("done", "failed")
    todo = [run for run in chosen if states.get(run.key) not in over]
    found = _estimate(suite, todo, jobs, options)
    return plan_text(chosen, todo, found, jobs=jobs, parts=options.dry_run)


def _search_text(plan: SuitePlan, directory: Path, options: argparse.Namespace) -> str:
    """The searches in words, with what runs take that are as theirs may be."""
    done = trials_done(directory, plan.suite, plan.searches)
    likely = [
        run
        for search, count in zip(plan.searches, done, strict=True)
        for run in search.likely_runs(max(0, search.search.trials - count))
    ]
    jobs = options.jobs or 1
    found = _estimate(plan.suite, likely, jobs, options)
    return search_text(plan.suite.name, plan.searches, done, found, jobs=jobs)


def _estimate(
    suite: Suite, runs: Sequence[PlannedRun], jobs: int, options: argparse.Namespace
) -> Estimate | None:
    """What runs take, measured where it is worth it or asked for."""
    if not runs or not (options.dry_run or sum(map(work, runs)) > _WORTH_MEASURING):
        return None
    return estimate(
        runs,
        files=[sae.file for sae in suite.saes.values() if sae.file is not None],
        device=options.device,
        threads=max(1, torch.get_num_threads() // jobs),
    )


def _with_plugins(suite: Suite, files: list[Path]) -> Suite:
    saes = {
        name: SuiteSAE(name, file.resolve()) for file in files for name in load_architectures(file)
    }
    return suite.with_saes(saes)
