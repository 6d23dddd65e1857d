"""What a suite takes of the process that drives it: its own CPU time for each of many tiny runs.

    python benchmarks/driver_time.py
    python benchmarks/driver_time.py --ray --runs 200

The runs are done by one worker process, or with ``--ray`` on a cluster of this machine that has one
node (extra "ray"). What is counted is the CPU time of this process and its threads, from the start
of the first task to the end of the last; planning is timed apart. Ends with status 1 above 10 ms a
run.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from harness import command_line
from harness.report import Section

from synthkern.suite.local import LocalExecutor
from synthkern.suite.plan import plan_runs
from synthkern.suite.ray_executor import RayExecutor
from synthkern.suite.scheduler import Scheduler
from synthkern.suite.suite import Suite
from synthkern.suite.supervisor import run_suite

#: Milliseconds a run that are allowed.
_ALLOWED = 10.0


def main() -> int:
    args = _parse()
    torch.set_num_threads(1)
    suite = tiny_suite(args.runs)
    began = time.monotonic()
    plan_runs(suite)
    planned = time.monotonic() - began
    executor = RayExecutor(patience=300) if args.ray else LocalExecutor()
    spent: list[float] = []
    run = Scheduler.run

    def measured(self: Scheduler) -> None:
        before = _own_seconds()
        run(self)
        spent.append(_own_seconds() - before)

    # Planning, and reading all runs at the end, are done once and not for each.
    Scheduler.run = measured  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        runs = run_suite(suite, Path(folder), executor=executor)
        whole = time.monotonic() - began
    if {each.state for each in runs} != {"done"}:
        raise RuntimeError(f"a run failed: {next(each.error for each in runs if each.error)}")
    section = Section(f"{args.runs} tiny runs {'on Ray' if args.ray else 'in a process'}")
    section.notes.append(f"planned in {planned:.1f} s, done in {whole:.1f} s")
    section.require_at_most(
        "the driver's own time a run", spent[0] / args.runs * 1e3, _ALLOWED, " ms"
    )
    print(section)
    return 0 if section.requirements[0].met else 1


def tiny_suite(runs: int) -> Suite:
    """Runs of a few milliseconds."""
    return Suite.from_dict(
        {
            "name": "tiny",
            "worlds": {"tiny": {"num_features": 16, "hidden_dim": 8, "seed": 0}},
            "saes": {"TopK": "topk"},
            "l0": [2],
            "seeds": list(range(runs)),
            "sae": {"d_sae": 16},
            "training": {"training_samples": 64, "batch_size": 16, "eval_samples": 100},
        }
    )


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _parse() -> Any:
    parser = command_line.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many, at least 1")
    parser.add_argument("--ray", action="store_true", help="on a Ray cluster of this machine")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error(f"--runs must be at least 1, got {args.runs}")
    return args


if __name__ == "__main__":
    sys.exit(main())
