"""CSR activations through a feature dictionary."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synthkern.engine.backend import GatherMode
from synthkern.sparse import SparseActivations


def gather(
    activations: SparseActivations,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    /,
    *,
    mode: GatherMode = "exact",
) -> torch.Tensor:
    """Hidden activations [B, D], one feature of every sample at a time."""
    hidden = bias.expand(activations.batch_size, -1).clone()
    if mode == "split":
        s0, s1, s2, s3 = sums = [torch.zeros_like(hidden) for _ in range(4)]
        _add_entries(sums, activations, vectors)
        return ((s0 + s2) + (s1 + s3)) + hidden
    if mode == "bfloat16":
        vectors = vectors.bfloat16().to(vectors.dtype)
    _add_entries([hidden], activations, vectors)
    return hidden


def _add_entries(
    sums: Sequence[torch.Tensor], activations: SparseActivations, vectors: torch.Tensor
) -> None:
    """Add the entries of each sample to the sums [B, D] in turn."""
    counts = activations.offsets.diff()
    values = activations.values.to(vectors.dtype)
    for nth in range(int(counts.max()) if counts.numel() else 0):
        rows = (counts > nth).nonzero().flatten()
        entry = activations.offsets[rows] + nth
        feature = activations.indices[entry].long()
        total = sums[nth % len(sums)]
        total[rows] = fma(values[entry, None], vectors[feature], total[rows])


def gather_grad_vectors(activations: SparseActivations, grad: torch.Tensor, /) -> torch.Tensor:
    """Gradient [N, D] of the feature vectors."""
    parts = activations.values.to(grad.dtype)[:, None] * grad[activations.row_indices()]
    # A feature may come again in a sample, as matching pursuit chooses it.
    vectors = grad.new_zeros(activations.num_features, grad.shape[1])
    return vectors.index_add_(0, activations.indices, parts)


def gather_grad_values(
    activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor, /
) -> torch.Tensor:
    """Gradient [nnz] of the activations' values."""
    feature = activations.indices.long()
    return (vectors[feature] * grad[activations.row_indices()]).sum(dim=1)


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a * b + c, for float32 with a single rounding.

    A product of float32 numbers is exact in float64. Their sum is rounded there to odd (Boldo and
    Melquiond, "Emulation of a FMA and correctly rounded sums", 2008): rounding that to float32
    gives what rounding the exact sum would.
    """
    if a.dtype == torch.float64:
        return a * b + c
    product, addend = a.double() * b.double(), c.double()
    total = product + addend
    tail = total - product
    error = (product - (total - tail)) + (addend - tail)
    bits = total.view(torch.int64)
    toward_zero = bits - ((error * total) < 0).long()
    inexact = torch.isfinite(error) & (error != 0)
    odd = torch.where(inexact, toward_zero | 1, bits)
    return odd.view(torch.float64).float()
