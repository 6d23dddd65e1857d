"""Counts of what fires with the C++ core."""

from __future__ import annotations

import torch

from synthkern import _core
from synthkern.engine.backend import Counts
from synthkern.engine.cpu.arrays import view
from synthkern.sparse import SparseActivations


def count_fires(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor, /
) -> Counts:
    """Counts [M] of the latents' firings, of their features', and of both at once."""

    def zeros(size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.int64, device="cpu")

    fires, hits, feature_fires = map(zeros, (len(matched), len(matched), features.num_features))
    _core.count_fires(
        view(latents.offsets),
        view(latents.indices),
        view(features.offsets),
        view(features.indices),
        view(matched.int()),
        view(fires),
        view(hits),
        view(feature_fires),
        torch.get_num_threads(),
    )
    return Counts(fires, hits, feature_fires[matched])
