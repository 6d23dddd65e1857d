"""Memory: what a run takes, and errors of it: what several have not enough of, one may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

#: Of a process that has imported PyTorch and this package.
_PROCESS = 500 * 2**20


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that there is not enough memory, on the CPU or a GPU."""
    # PyTorch's allocator for the CPU has no error of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def estimated_memory(configs: Sequence[Mapping[str, Any]], world: int) -> int:
    """Bytes that a process takes for runs side by side, before any like them has been measured.

    Args:
        configs: of the runs, of one world and batch size.
        world: bytes of the world's files.
    """
    total = _PROCESS + 2 * world
    for config in configs:
        width, latents = config["sae"]["d_in"], config["sae"]["d_sae"]
        # Encoder and decoder, each with a gradient and two moments; inputs, outputs, latents and
        # their gradients.
        total += 4 * (2 * width * latents * 4 + config["batch_size"] * (4 * width + 4 * latents))
    return total
