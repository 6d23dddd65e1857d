"""Sparse maps of CSR activations to outputs with the C++ core."""

from __future__ import annotations

import torch

from synthkern import _core
from synthkern.engine.cpu.arrays import entries, view
from synthkern.sparse import SparseActivations


def apply_map(
    activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor, /
) -> SparseActivations:
    """Outputs [B, K]; work follows the edges of what fires."""
    arrays = _core.apply_map(
        view(activations.offsets),
        view(activations.indices),
        view(activations.values),
        view(weights.offsets),
        view(weights.indices),
        view(weights.values),
        view(thresholds),
        torch.get_num_threads(),
    )
    return entries(arrays, weights.num_features)
