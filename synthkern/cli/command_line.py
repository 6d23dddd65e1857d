"""The command ``synthkern``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from synthkern._version import __version__
from synthkern.cli.bench import add_bench_command
from synthkern.cli.cache import add_cache_command
from synthkern.cli.compare import add_compare_command
from synthkern.cli.describe import add_world_commands
from synthkern.cli.evaluate import add_eval_command
from synthkern.cli.info import add_info_command
from synthkern.cli.plot import add_plot_command
from synthkern.cli.report import add_report_command
from synthkern.cli.sample import add_sample_command
from synthkern.cli.train import add_train_command, named_architecture
from synthkern.training.interrupt import termination_interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a terminal has no letter for must not fail a command whose work is done.
            stream.reconfigure(errors="backslashreplace")
    with termination_interrupts():
        return _run(words)


def _run(words: list[str]) -> int:
    try:
        options = _parser(named_architecture(words)).parse_args(words)
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads what is printed has seen enough, as "head" does; nothing is told to nobody.
        _silence()
        return 141
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError) as error:
        print(f"synthkern: {error}", file=sys.stderr)
        return 2
    return status


def _silence() -> None:
    """What is still to be written to standard output goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _parser(architecture: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="synthkern",
        description="Synthetic data with known features, and sparse autoencoders on it",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_world_commands(commands)
    add_sample_command(commands)
    add_train_command(commands, architecture)
    add_eval_command(commands)
    add_plot_command(commands)
    add_bench_command(commands)
    add_compare_command(commands)
    add_report_command(commands)
    add_cache_command(commands)
    add_info_command(commands)
    return parser
