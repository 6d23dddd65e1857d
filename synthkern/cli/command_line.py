"""The command ``synthkern``."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthkern import _core
from synthkern._version import __version__
from synthkern.cli.bench import add_bench_command
from synthkern.cli.compare import add_compare_command
from synthkern.cli.report import add_report_command
from synthkern.cli.training_commands import add_commands, named_architecture
from synthkern.cli.world_argument import load_world, world_or_source
from synthkern.data.shards import WHAT, SampleJob, write_samples
from synthkern.engine import BACKENDS, backend_for
from synthkern.model.description import describe_world
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.stream import STREAM_VERSION
from synthkern.training.interrupt import termination_interrupts
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import ABOUT, PRESETS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    with termination_interrupts():
        return _run(words)


def _run(words: list[str]) -> int:
    try:
        options = _parser(named_architecture(words)).parse_args(words)
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError) as error:
        print(f"synthkern: {error}", file=sys.stderr)
        return 2
    return status


def _parser(architecture: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="synthkern",
        description="Synthetic data with known features, and sparse autoencoders on it",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sample = commands.add_parser(
        "sample",
        help="write samples of a world to disk",
        description="Write samples as safetensors shards with a manifest and the model itself. "
        "Run again after an interruption, it continues and ends with the same bytes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sample.add_argument(
        "world", metavar="WORLD", help=f"a preset ({', '.join(PRESETS)}) or a config's JSON file"
    )
    sample.add_argument("--samples", type=int, required=True, help="number of samples")
    sample.add_argument("--seed", type=int, required=True, help="of the samples' stream")
    sample.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    sample.add_argument("--batch-size", type=int, default=16384, help="samples in a shard")
    sample.add_argument("--what", choices=WHAT, default="hidden", help="what a shard holds")
    sample.add_argument("--start", type=int, default=0, help="index of the first sample")
    sample.set_defaults(run=_sample)

    describe = commands.add_parser(
        "describe",
        help="print a world's rates, level by level",
        description="Print what a world asks for and what it has: rates, L0, magnitudes and "
        "exclusivity at every level of its trees.",
    )
    describe.add_argument(
        "world",
        metavar="WORLD",
        help="a preset, a config's JSON file, a saved model's directory or REPO[:SUBFOLDER]",
    )
    describe.set_defaults(run=_describe)

    add_commands(commands, architecture)
    add_bench_command(commands)
    add_compare_command(commands)
    add_report_command(commands)

    presets = commands.add_parser("presets", help="list the worlds that have a name")
    presets.set_defaults(run=_presets)

    info = commands.add_parser("info", help="print versions, backends and the machine")
    info.set_defaults(run=_info)
    return parser


def _sample(options: argparse.Namespace) -> int:
    job = SampleJob(
        cfg=load_world(options.world),
        samples=options.samples,
        seed=options.seed,
        start=options.start,
        batch_size=options.batch_size,
        what=options.what,
    )
    written = write_samples(job, options.out)
    print(f"{written:,} samples written to {options.out}, {job.samples - written:,} were there")
    return 0


def _describe(options: argparse.Namespace) -> int:
    world = world_or_source(options.world)
    if isinstance(world, str):
        print(SyntheticModel.load_from_source(world).describe())
    else:
        print(describe_world(world))
    return 0


def _presets(options: argparse.Namespace) -> int:
    del options
    for name in PRESETS:
        cfg, about = SyntheticModelConfig.preset(name), ABOUT[name]
        print(f"{name:<22}{cfg.num_features:>10,} features {cfg.hidden_dim:>5} dimensions  {about}")
    return 0


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _info(options: argparse.Namespace) -> int:
    del options
    rows = {
        "synthkern": __version__,
        "stream version": STREAM_VERSION,
        "backends": ", ".join(BACKENDS),
        "backend for cpu": backend_for(torch.device("cpu")).name,
        "instruction set": f"{_core.instruction_set()} of {', '.join(_core.instruction_sets())}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else "not available",
        "triton": _version_of("triton"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    return 0
