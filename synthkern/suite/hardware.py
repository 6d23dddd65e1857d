"""What a run is done on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from synthkern import _core


def hardware(device: str) -> dict[str, Any]:
    """Names and numbers of the machine that decide how fast a run is, as JSON types."""
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "instruction_set": _core.instruction_set(),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
