"""Noise in hidden activations with the C++ core."""

from __future__ import annotations

import torch

from synthkern import _core
from synthkern.engine.backend import Noise
from synthkern.engine.cpu.arrays import view


def add_noise(hidden: torch.Tensor, noise: Noise, seed: int, start: int, /) -> None:
    """Add noise to hidden activations [B, D] in place."""
    rows = view(hidden)
    std, factor = view(noise.std), view(noise.factor)
    _core.add_noise(rows, std, factor, seed, start, torch.get_num_threads())
    if rows.ctypes.data != hidden.data_ptr():
        hidden.copy_(torch.from_numpy(rows))  # where the core could not write
