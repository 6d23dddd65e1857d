"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import synthkern
from harness import peer, resident
from synthkern import _core
from synthkern.engine.processor import cpuinfo
from synthkern.engine.product import chosen_product


def describe() -> dict[str, Any]:
    """Hardware, versions and how busy the machine was, as JSON types."""
    return {
        "cpu": cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "instruction_set": _core.instruction_set(),
        "product": chosen_product(),
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "memory_available_bytes": resident.available_bytes(),
        "load_average": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "synthkern": synthkern.__version__,
        "synthkern_commit": _commit(),
        "stream_version": synthkern.STREAM_VERSION,
        "peer": peer.version(),
    }


def _commit() -> str | None:
    """The checkout's commit, with "-dirty" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
