"""Applying a forest to given activations on the GPU."""

from __future__ import annotations

import torch

from synthkern._checks import check_finite
from synthkern.engine.triton.forest_dense import walk_dense
from synthkern.engine.triton.forest_lists import apply_forest_csr
from synthkern.engine.triton.launch import position_on
from synthkern.plan import Forest
from synthkern.sparse import SparseActivations

__all__ = ["apply_forest_csr", "apply_forest_dense", "apply_forest_sparse"]


def apply_forest_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> torch.Tensor:
    """Apply a forest to activations [B, N]: a new tensor, as :func:`walk_dense` makes it.

    Waits for the device once, to check that the activations are finite.
    """
    check_finite("activations", activations)
    applied = activations.detach().clone(memory_format=torch.contiguous_format)
    walk_dense(forest, applied, means, position_on(applied.device, seed, start), ordinal)
    return applied


def apply_forest_sparse(
    forest: Forest,
    activations: SparseActivations,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> SparseActivations:
    """Apply a forest to activations in CSR form, as :func:`apply_forest_csr` does.

    They are finite, which the engine has checked. Entries that are or became zero are dropped;
    waits for the device once, for the number of those that are left.
    """
    values = activations.values.detach().clone(memory_format=torch.contiguous_format)
    apply_forest_csr(
        forest,
        activations.offsets[:-1].contiguous(),
        activations.offsets.diff().int(),
        activations.indices.contiguous(),
        values,
        means,
        position_on(values.device, seed, start),
        ordinal,
        activations.num_features,
    )
    return activations.with_values(values).drop_zeros()
