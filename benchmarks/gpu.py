"""Check and time the engine on a CUDA GPU, in one run that needs no network.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --quick --only first-calls,generation
    python benchmarks/gpu.py --tune --only tuning,generation --out tuned.json

What must be present: torch built for CUDA and a GPU that it sees, triton, numpy, safetensors and
tqdm; and this package with its compiled core, installed or built in place, in the checkout, by
``python setup.py build_ext --inplace``, which needs setuptools, a C++ compiler and pybind11 (then
run with ``PYTHONPATH=.``). sae-lens is timed beside it where it is installed. TRITON_INTERPRET
must not be set. Nothing is downloaded.

The bits are compared with the CPU's first, and a difference ends the run. Times are medians of
CUDA events. All of it takes about eight minutes: what is not done by ``--budget`` seconds is left
out and said to be. ``--tune`` (minutes more, most of them compiling) keeps what it finds in the
user's cache, where sampling looks it up; measured after it are tuned tiles.

``--quick`` has two sizes. With ``--interpret`` too, the same code runs in Triton's interpreter on
the CPU, on tiny worlds, to show that it runs: it prints no figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import command_line

#: Sections by name, in the order in which they run.
SECTIONS = {
    "first-calls": "first_calls",
    "equality": "equality",
    "tuning": "tuning",
    "generation": "generation",
    "graph": "graph",
    "selections": "selections",
    "training": "training",
}


def main() -> None:
    """Run the sections that the command line names."""
    args = _parse()
    # Before Triton is imported.
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
        os.environ["SYNTHKERN_BACKEND"] = "triton"
    with tempfile.TemporaryDirectory() as scratch:
        # Compiled anew, so that the first calls show what that takes.
        os.environ["TRITON_CACHE_DIR"] = scratch
        if args.interpret:
            os.environ["SYNTHKERN_CACHE"] = scratch
        _run(args)


def _run(args: argparse.Namespace) -> None:
    import torch

    for name in ("TRITON_INTERPRET", "SYNTHKERN_BACKEND"):
        if not args.interpret and os.environ.get(name):
            raise SystemExit(f"{name} must not be set, got {os.environ[name]!r}")
    if not args.interpret and not torch.cuda.is_available():
        raise SystemExit("gpu.py needs a CUDA GPU, and torch sees none; --quick --interpret runs")
    from harness import hardware
    from harness.gpu_run import describe_gpu

    run = _sizes(args)
    machine = {**describe_gpu(run.device), **hardware.describe()}
    print("\n".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    report: dict[str, Any] = {"machine": machine, "sections": {}}
    if args.interpret:
        report["note"] = "interpreter: no figures"
    sections = []
    for name in args.only:
        if run.is_over:
            run.say(f"{name} is left out: no time left")
            continue
        run.say(f"section {name}")
        section = importlib.import_module(f"gpu_sections.{SECTIONS[name]}").run(run)
        if args.interpret:
            section.notes.insert(0, "interpreter: no figures")
            section.requirements.clear()
        print(f"\n{section}\n", flush=True)
        sections.append(section)
        report["sections"][name] = section.to_dict()
        args.out.write_text(json.dumps(report, indent=2) + "\n")
    if args.interpret:
        print("== interpreter: no figures")
        return
    print("== required and measured")
    print("\n".join(str(line) for section in sections for line in section.requirements))


def _sizes(args: argparse.Namespace) -> Any:
    import torch
    from harness.gpu_run import Run

    standard, prefix = ("synth-sae-bench-16k", 4096), "synth-sae-bench-"
    deadline = time.perf_counter() + args.budget
    if args.interpret:
        return Run(torch.device("cpu"), True, ("tiny",), (8,), ("tiny", 8), 1000, deadline)
    device = torch.device("cuda", torch.cuda.current_device())
    sizes = ("16k", "1k") if args.quick else ("16k", "1m", "131k", "4k", "1k")
    presets = tuple(prefix + size for size in sizes)
    batches = (1024, 4096) if args.quick else (1024, 4096, 16384, 65536)
    decisions = 10**8 if args.quick else 2**30
    return Run(device, False, presets, batches, standard, decisions, deadline)


def _parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes, fewer comparisons")
    parser.add_argument("--interpret", action="store_true", help="with --quick: on the CPU")
    parser.add_argument("--tune", action="store_true", help="tune tiles before they are timed")
    command_line.add_only(parser, SECTIONS, "sections")
    parser.set_defaults(only=None)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE")
    parser.add_argument("--budget", type=float, default=440.0, metavar="SECONDS")
    args = parser.parse_args()
    if args.interpret and not args.quick:
        parser.error("--interpret needs --quick")
    if args.only is None:
        args.only = [name for name in SECTIONS if name != "tuning" or args.tune]
    return args


if __name__ == "__main__":
    main()
