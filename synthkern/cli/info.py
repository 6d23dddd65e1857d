"""The command that prints versions, backends and the machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from typing import Any

import numpy as np
import torch

from synthkern import _core
from synthkern._table import text_table
from synthkern._version import __version__
from synthkern.engine import BACKENDS, backend_for
from synthkern.stream import STREAM_VERSION


def add_info_command(commands: Any) -> None:
    """Add "info" to a parser's commands."""
    info = commands.add_parser("info", help="print versions, backends and the machine")
    info.set_defaults(run=_info)


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
    print("\n".join(text_table([(name, str(value)) for name, value in rows.items()], "<<")))
    return 0
