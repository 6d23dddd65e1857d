"""Applying a forest to given activations with the C++ core."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from synthkern import _core
from synthkern.engine.cpu.arrays import view
from synthkern.plan import Forest
from synthkern.sparse import SparseActivations

_bound: WeakKeyDictionary[Forest, dict[int, Any]] = WeakKeyDictionary()


def apply_forest_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> torch.Tensor:
    """Apply a forest to activations [B, N]."""
    out = _core.apply_dense(
        forest=bound_forest(forest, activations.shape[1]),
        activations=view(activations),
        mean=None if means is None else view(means),
        seed=seed,
        start=start,
        ordinal=ordinal,
        threads=torch.get_num_threads(),
    )
    return torch.from_numpy(out)


def apply_forest_sparse(
    forest: Forest,
    activations: SparseActivations,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> SparseActivations:
    """Apply a forest to activations in CSR form."""
    values = torch.from_numpy(
        _core.apply_sparse(
            forest=bound_forest(forest, activations.num_features),
            offsets=view(activations.offsets),
            indices=view(activations.indices),
            values=view(activations.values),
            mean=None if means is None else view(means),
            seed=seed,
            start=start,
            ordinal=ordinal,
            threads=torch.get_num_threads(),
        )
    )
    return activations.with_values(values).drop_zeros()


def bound_forest(forest: Forest, num_features: int) -> Any:
    """The core's form of a forest over ``num_features`` features, made once."""
    by_size = _bound.setdefault(forest, {})
    if num_features not in by_size:
        by_size[num_features] = _core.Forest(
            num_features, view(forest.packed()), view(forest.parent)
        )
    return by_size[num_features]
