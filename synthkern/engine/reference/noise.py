"""Noise in hidden activations."""

from __future__ import annotations

import torch

from synthkern.engine.backend import Noise
from synthkern.engine.reference.gather import fma
from synthkern.stream.words import NOISE, NOISE_FACTOR, numbered_normals, sample_indices

#: Numbers drawn at once; bounds the memory of a large batch.
_ELEMENTS = 2**20


def add_noise(hidden: torch.Tensor, noise: Noise, seed: int, start: int, /) -> None:
    """Add noise to hidden activations [B, D] in place: its factors, ascending, then its own."""
    rank, dim = noise.factor.shape
    std, factor = noise.std.to(hidden.dtype), noise.factor.to(hidden.dtype)
    index = sample_indices(start, len(hidden), hidden.device)
    rows = max(1, _ELEMENTS // max(1, dim, rank))
    for part, at in zip(hidden.split(rows), index.split(rows), strict=True):
        factors = numbered_normals(NOISE_FACTOR, rank, at, seed).to(hidden.dtype)
        total = part
        for k in range(rank):
            total = fma(factor[k], factors[:, k : k + 1], total)
        own = numbered_normals(NOISE, dim, at, seed).to(hidden.dtype)
        part.copy_(fma(std, own, total))
