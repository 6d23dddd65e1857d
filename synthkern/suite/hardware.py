"""What a run is done on."""

from __future__ import annotations

import platform
from typing import Any

import torch

from synthkern import _core
from synthkern.engine.processor import cpuinfo
from synthkern.engine.product import chosen_product


def hardware(device: str) -> dict[str, Any]:
    """Names and numbers of the machine that decide how fast a run is, as JSON types."""
    found: dict[str, Any] = {
        "cpu": cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "instruction_set": _core.instruction_set(),
        "product": chosen_product(),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
