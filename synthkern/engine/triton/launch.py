"""Launching kernels: on the right device, without contraction, or only noted down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

#: The stream rounds a product before it is added; no kernel may contract the two.
EXACT = {"enable_fp_fusion": False}

#: Whether Triton's interpreter runs the kernels, on the CPU; it decides when they are imported.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel, its arguments in order and its constants and options by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


_recorders: list[list[Launch]] = []


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Launches inside are noted instead of run: what there is to compile, on any machine."""
    launches: list[Launch] = []
    _recorders.append(launches)
    try:
        yield launches
    finally:
        _recorders.pop()


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Enqueue a kernel on the current stream of the device of its first argument, a tensor."""
    if 0 in grid:
        return
    options = {**EXACT, **options}
    if _recorders:
        _recorders[-1].append(Launch(kernel, grid, arguments, options))
        return
    with current(arguments[0].device):
        kernel[grid](*arguments, **options)


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Makes ``device`` the current one, whose current stream Triton launches on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def on_gpu(device: torch.device) -> bool:
    """Whether launches are for a GPU, noted or run, and not for the interpreter."""
    return device.type == "cuda" or bool(_recorders)


def processors(device: torch.device) -> int:
    """Number of multiprocessors; in the interpreter, which runs programs one by one, 1."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def position_on(device: torch.device, seed: int, start: int) -> torch.Tensor:
    """A seed and the index of a first sample in device memory: [2] int64, as bit patterns."""
    position = torch.tensor([_signed(seed), _signed(start)])
    # From pageable memory this copies without waiting for the device.
    return position.to(device, non_blocking=True)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
