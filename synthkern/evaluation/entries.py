"""Which entries of activations are not zero."""

from __future__ import annotations

import torch

from synthkern import engine
from synthkern._checks import check_tensor, is_whole
from synthkern.plan.manifolds import Manifolds
from synthkern.sparse import SparseActivations

#: Dense, sparse COO, or in CSR form.
Activations = torch.Tensor | SparseActivations


def entries_of(name: str, activations: Activations, width: int | None = None) -> SparseActivations:
    """The entries of activations [B, width] that are not zero, NaN among them, in CSR form.

    Those of integers, or of True and False, are float32.

    Raises:
        TypeError: for anything but a tensor or SparseActivations.
        ValueError: for another shape or layout.
    """
    if not isinstance(activations, SparseActivations):
        check_tensor(name, activations)
    if is_whole(activations):
        activations = activations.to(torch.float32)
    expected = f"[B, {'N' if width is None else width}]"
    shape = activations.shape
    if len(shape) != 2 or width not in (None, shape[1]):
        raise ValueError(f"{name} must have shape {expected}, got {list(shape)}")
    if not isinstance(activations, SparseActivations):
        if activations.layout == torch.strided:
            return engine.compress(activations)
        if activations.layout != torch.sparse_coo:
            raise ValueError(f"{name} must be dense or sparse COO, got {activations.layout}")
        activations = SparseActivations.from_sparse_coo(activations)
    # Seldom is one stored, and looking takes a tenth of what copying all others does.
    return activations if bool((activations.values != 0).all()) else activations.drop_zeros()


def positive(entries: SparseActivations) -> SparseActivations:
    """The entries that are above zero."""
    above = entries.values > 0
    if bool(above.all()):
        return entries
    values = entries.values.where(above, torch.zeros_like(entries.values))
    return entries.with_values(values).drop_zeros()


def firing(entries: SparseActivations, manifolds: Manifolds | None) -> SparseActivations:
    """The entries of features that fire: those above zero, and the absolute values of those of
    manifolds, which have either sign.
    """
    if manifolds is None:
        return positive(entries)
    signed = manifolds.is_member()[entries.indices.long().to(manifolds.leader.device)]
    values = entries.values
    sizes = torch.where(signed.to(values.device), values.abs(), values)
    return positive(entries.with_values(sizes))
