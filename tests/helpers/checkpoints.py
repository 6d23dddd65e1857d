"""What a checkpoint of a training says, read and changed without the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

FILENAME = "training_state.safetensors"


def read_data(folder: Path) -> dict[str, Any]:
    """All that is no tensor."""
    tensors = safetensors.torch.load((folder / FILENAME).read_bytes())
    found: dict[str, Any] = json.loads(tensors["json"].numpy().tobytes())
    return found


def write_text(folder: Path, text: str) -> None:
    """Put another text in place of what is no tensor."""
    tensors = safetensors.torch.load((folder / FILENAME).read_bytes())
    tensors["json"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    safetensors.torch.save_file(tensors, folder / FILENAME)


def steps_saved(folder: Path) -> int:
    """Steps that it goes on from; 0 where there is none."""
    if not (folder / FILENAME).exists():
        return 0
    steps: int = read_data(folder)["trainer"]["n_training_steps"]
    return steps
