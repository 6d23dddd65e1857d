"""Compile every Triton kernel ahead of time, with no GPU, and print what the code asks for.

    python benchmarks/compile_kernels.py
    python benchmarks/compile_kernels.py --markdown benchmarks/kernels.md --json kernels.json

What is compiled is what the package launches, noted down instead of run, on worlds that between
them take every path: with the tile shapes of a GPU and Triton's own specialisation of arguments.
It takes two or three minutes on two idle cores, half of that with ``--brief``. Needs triton 3.6 or
later, with the tools in its wheel, and ``TRITON_INTERPRET`` unset.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from harness import command_line, launches
from harness.compiled import TARGETS, Compiled, Job, compile_job, job_of, versions
from harness.report import Table

from synthkern.engine.triton.launch import INTERPRETED

#: The target that the design is for.
_FULL = "sm_90"

_COLUMNS = (
    "kernel",
    "variant",
    "target",
    "registers",
    "spills",
    "shared memory",
    "barriers",
    "compiled in",
)

_HEAD = """\
# The Triton kernels, compiled

Written by `python benchmarks/compile_kernels.py --markdown benchmarks/kernels.md`. Compiled ahead
of time for GPUs that were not there: none of this has been run or timed, and the seconds are the
compiler's, two at a time, on a machine that had other work besides.

{versions}

Registers are a thread's (on gfx942 VGPRs). Spills are the bytes that a thread's instructions store
and load of registers that did not fit, each instruction counted once; on gfx942 how many VGPRs and
SGPRs did not fit, the latter into lanes of VGPRs and not into memory. Shared memory is a program's.
Barriers are instructions that wait for all warps of a program, which one of a single warp passes.
A variant is named after the first world or call that launches it.
"""


def main() -> None:
    """Compile and print."""
    args = _parse()
    if INTERPRETED:
        sys.exit(
            "TRITON_INTERPRET is set: kernels are interpreted, and there is nothing to compile"
        )
    names = _variants(args.brief)
    missing = launches.kernel_names() - {job.kernel for job in names}
    if missing:
        sys.exit(f"no variant launches {', '.join(sorted(missing))}")
    compiled = _compile(list(names), args.processes)
    rows = [(names[job], done) for job, done in compiled.items()]
    table = Table("", _COLUMNS, [_row(name, done) for name, done in rows])
    print(", ".join(f"{name} {version}" for name, version in versions().items()), table, sep="\n")
    if args.json is not None:
        report = {
            "versions": versions(),
            "kernels": [{"variant": name, **done.to_dict()} for name, done in rows],
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.markdown is not None:
        args.markdown.write_text(_markdown(table))


def _parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write the table")
    parser.add_argument(
        "--brief",
        action="store_true",
        help=f"all variants for {_FULL} alone, the first of every kernel for the other targets",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="that compile at the same time (default: one for each core)",
    )
    return parser.parse_args()


def _variants(brief: bool) -> dict[Job, str]:
    """What there is to compile and its name; what two calls launch is compiled once."""
    names: dict[Job, str] = {}
    seen: set[tuple[str, str]] = set()
    for name, launch in launches.launched():
        for target in TARGETS:
            job = job_of(launch, target)
            if not brief or target == _FULL or (job.kernel, target) not in seen:
                names.setdefault(job, name)
                seen.add((job.kernel, target))
    return names


def _compile(jobs: list[Job], processes: int) -> dict[Job, Compiled]:
    # The drawing takes longest and so comes first; nothing that was compiled before is used again.
    ordered = sorted(jobs, key=lambda job: job.kernel != "sample_kernel")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=spawned) as pool:
            done = dict(zip(ordered, pool.map(compile_job, ordered), strict=True))
    return {job: done[job] for job in jobs}


def _row(name: str, done: Compiled) -> tuple[str, ...]:
    return (
        done.kernel,
        name,
        done.target,
        str(done.registers),
        ", ".join(f"{count} {what}" for what, count in done.spills.items() if count) or "none",
        f"{done.shared:,} bytes",
        str(done.barriers),
        f"{done.seconds:.1f} s",
    )


def _markdown(table: Table) -> str:
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{_HEAD.format(versions=found)}\n{rows}\n"


if __name__ == "__main__":
    main()
