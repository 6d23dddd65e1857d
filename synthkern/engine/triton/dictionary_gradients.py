"""Gradients of the dictionary's gather on the GPU, the same bits at every call."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.dictionary import gather_entries
from synthkern.engine.triton.launch import launch
from synthkern.sparse import SparseActivations

#: Entries times components that a program holds, and components at most: a row's part of 512
#: bytes is one load of a warp. Reasoned, not measured.
_TILE = 1024
_COMPONENTS = 128
_WARPS = 4


def gather_grad_vectors(activations: SparseActivations, grad: torch.Tensor, /) -> torch.Tensor:
    """Gradient [N, D] of the feature vectors: ``activations.to_dense().T @ grad``.

    By feature: the gather of ``grad`` [B, D] by the transposed activations, samples ascending,
    fused multiply-adds from zero. No host synchronisation.
    """
    feature, order = torch.sort(activations.indices, stable=True)
    every = torch.arange(activations.num_features + 1, dtype=feature.dtype, device=feature.device)
    return gather_entries(
        torch.searchsorted(feature, every),
        activations.row_indices()[order],
        activations.values.to(grad.dtype)[order],
        grad,
        torch.zeros(grad.shape[1], dtype=grad.dtype, device=grad.device),
    )


@triton.jit
def products_kernel(
    sample,  # [nnz] int64
    indices,  # [nnz] int32
    vectors,  # [N, D] float32 or float64
    grad,  # [B, D] of the vectors' dtype
    out,  # [nnz] of the vectors' dtype
    nnz,
    dim,
    ENTRIES: tl.constexpr,
    COMPONENTS: tl.constexpr,
    HALVINGS: tl.constexpr,
    UNIT: tl.constexpr,
):
    """A tile of entries, each the product of its vector and its sample's gradient."""
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    there = entry < nnz
    feature = tl.load(indices + entry, mask=there, other=0).to(tl.int64)
    row = tl.load(sample + entry, mask=there, other=0)
    width = dim // UNIT * UNIT
    sums = tl.zeros((ENTRIES, COMPONENTS), vectors.dtype.element_ty)
    for first in range(0, width, COMPONENTS):
        component = first + tl.arange(0, COMPONENTS)
        inside = there[:, None] & (component < width)[None, :]
        one = tl.load(vectors + feature[:, None] * width + component[None, :], mask=inside, other=0)
        other = tl.load(grad + row[:, None] * width + component[None, :], mask=inside, other=0)
        sums = tl.fma(one, other, sums)
    for k in tl.static_range(HALVINGS):
        pairs = tl.reshape(sums, (ENTRIES, COMPONENTS >> (k + 1), 2))
        even, odd = tl.split(pairs)
        sums = even + odd
    tl.store(out + entry, tl.reshape(sums, (ENTRIES,)), mask=there)


def gather_grad_values(
    activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor, /
) -> torch.Tensor:
    """Gradient [nnz] of the values: ``(vectors[indices] * grad[row_indices]).sum(dim=1)``.

    In W partial sums, W the power of two from 32 to 128 that D asks for: sum l over the
    components l, l + W, ... by fused multiply-adds from zero, then neighbours are added until one
    is left. No host synchronisation.
    """
    nnz, dim = activations.nnz, grad.shape[1]
    out = torch.empty(nnz, dtype=grad.dtype, device=grad.device)
    components = min(_COMPONENTS, max(32, triton.next_power_of_2(dim)))
    entries = _TILE // components
    launch(
        products_kernel,
        (triton.cdiv(nnz, entries),),
        activations.row_indices(),
        activations.indices.contiguous(),
        vectors.contiguous(),
        grad.contiguous(),
        out,
        nnz,
        dim,
        ENTRIES=entries,
        COMPONENTS=components,
        HALVINGS=components.bit_length() - 1,
        UNIT=math.gcd(dim, 16),
        num_warps=_WARPS,
    )
    return out
