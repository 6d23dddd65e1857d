"""Errors of memory: what several runs have not enough of, one may."""

from __future__ import annotations

import torch


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that there is not enough memory, on the CPU or a GPU."""
    # PyTorch's allocator for the CPU has no error of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
