"""Dense activations to CSR form on the GPU: those that are not zero, or those above bounds.

The floor: the B * N numbers are read twice, to count and to fill, from memory where they do not
fit the L2; what is written is 8 bytes for each entry.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch
from synthkern.sparse import SparseActivations

#: Features of one sample that a program looks at: 16 numbers a lane. Reasoned, not measured.
_CHUNK = 2048
_WARPS = 4


@triton.jit
def _chunk(activations, bounds, num_features, chunks, CHUNK: tl.constexpr):
    """This program's part of a row: features [CHUNK], their activations, and which are entries."""
    part = tl.program_id(0).to(tl.int64)
    feature = (part % chunks) * CHUNK + tl.arange(0, CHUNK)
    place = activations + (part // chunks) * num_features + feature
    inside = feature < num_features
    x = tl.load(place, mask=inside, other=0)
    if bounds is None:
        kept = x != 0
    else:
        kept = inside & ~(x <= tl.load(bounds + feature, mask=inside, other=0))
    return feature, x, kept


@triton.jit
def count_kernel(
    activations,  # [B, N] float32 or float64
    bounds,  # [N] of the same dtype, or None
    counts,  # [B * chunks] int32
    num_features,
    chunks,
    CHUNK: tl.constexpr,
):
    """Counts the entries of a part of a row: what is not zero, or not at most its bound."""
    _, _, kept = _chunk(activations, bounds, num_features, chunks, CHUNK)
    tl.store(counts + tl.program_id(0), tl.sum(kept.to(tl.int32), 0))


@triton.jit
def fill_kernel(
    activations,  # [B, N] float32 or float64
    bounds,  # [N] of the same dtype, or None
    before,  # [B * chunks + 1] int64
    indices,  # [nnz] int32
    values,  # [nnz] of the activations' dtype
    num_features,
    chunks,
    CHUNK: tl.constexpr,
):
    """Writes them, in order, behind those of all parts before."""
    feature, x, kept = _chunk(activations, bounds, num_features, chunks, CHUNK)
    start = tl.load(before + tl.program_id(0))
    place = tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(indices + start + place, feature.to(tl.int32), mask=kept)
    tl.store(values + start + place, x, mask=kept)


def compress(activations: torch.Tensor, /) -> SparseActivations:
    """The entries of activations [B, N] that are not zero: ``SparseActivations.from_dense``.

    -0 is a zero, NaN an entry. Waits for the device once, for the number of entries, which the
    result's size needs.
    """
    return _entries(activations, None)


def select_above(pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations:
    """All pre-activations [B, M] above their latent's bound [M], and NaN; waits as well."""
    return _entries(pre, bounds.detach().contiguous())


def _entries(activations: torch.Tensor, bounds: torch.Tensor | None) -> SparseActivations:
    batch, num_features = activations.shape
    device, dense = activations.device, activations.detach().contiguous()
    chunks = triton.cdiv(num_features, _CHUNK)
    # Not empty: none are counted where launches are only noted down.
    counts = torch.zeros(batch * chunks, dtype=torch.int32, device=device)
    launch(
        count_kernel,
        (batch * chunks,),
        dense,
        bounds,
        counts,
        num_features,
        chunks,
        CHUNK=_CHUNK,
        num_warps=_WARPS,
    )
    before = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    nnz = int(before[-1])
    indices = torch.empty(nnz, dtype=torch.int32, device=device)
    values = torch.empty(nnz, dtype=activations.dtype, device=device)
    launch(
        fill_kernel,
        (batch * chunks,),
        dense,
        bounds,
        before,
        indices,
        values,
        num_features,
        chunks,
        CHUNK=_CHUNK,
        num_warps=_WARPS,
    )
    # Without features there are no chunks, and every sample ends where it begins.
    offsets = before[::chunks].contiguous() if chunks else before.repeat(batch + 1)
    return SparseActivations(offsets, indices, values, num_features, validate=False)
