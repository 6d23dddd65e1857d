"""CSR activations through a feature dictionary on the GPU, and the gradients of that.

The floor: a batch of B samples with nnz entries reads a row of the dictionary an entry, nnz * D * 4
bytes, from the L2 where the rows fit there and else from memory, and writes B * D * 4 bytes of
hidden activations to memory; the entries themselves, 8 bytes each, are next to nothing. Programs
that run at the same time work on the same components of different samples, so that of the
dictionary N * 256 * 4 bytes are wanted at a time, 17 MB where N is 16,384, and not all of it.

The gradients are the same bits at every call.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch.utils.weak import WeakTensorKeyDictionary

from synthkern.engine.backend import GatherMode
from synthkern.engine.triton.launch import launch
from synthkern.sparse import SparseActivations

#: Components that a program computes at most, of one sample; of more samples where D is smaller.
#: A program is one warp, whose lanes have two loads of 16 bytes under way for each of four
#: entries, 4 KB in all. To hide the L2's latency at its rate (some 600 cycles, 64 bytes a cycle)
#: a multiprocessor needs about 40 KB under way, ten warps; their 58 registers leave room for 32.
#: One sample a program wastes nothing where the samples' numbers of entries differ, and needs no
#: shared memory. Reasoned, not measured.
_SAMPLES_TILE = 256
_SAMPLES_WARPS = 1
#: Entries times components that a program holds, and components at most: a row's part of 512
#: bytes is one load of a warp. Reasoned, not measured.
_ENTRIES_TILE = 1024
_ENTRIES_COMPONENTS = 128
_ENTRIES_WARPS = 4


@triton.jit
def add_entry(sums, n, begin, count, indices, values, vectors, component, inside, width):
    """fma of the n-th entry of each sample to ``sums`` [S, W], where the sample has one."""
    live = n < count
    entry = begin + n
    feature = tl.load(indices + entry, mask=live, other=0).to(tl.int64)
    value = tl.load(values + entry, mask=live, other=0)
    place = vectors + feature[:, None] * width + component[None, :]
    rows = tl.load(place, mask=live[:, None] & inside[None, :], other=0).to(sums.dtype)
    # Not for the others: a product of zeros would turn a sum of -0 into 0.
    return tl.where(live[:, None], tl.fma(value[:, None], rows, sums), sums)


@triton.jit
def gather_rows(
    begin,
    count,
    indices,
    values,
    vectors,
    bias,
    component,
    dim,
    UNIT: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Hidden activations [S, W] of S samples at W components.

    Arguments:
        begin: tile [S] int64, the place of each sample's first entry in the two lists below.
        count: tile [S] int32, each sample's number of entries; 0 for a sample that is none.
        indices: pointer to any integers, the features of the entries, ascending in a sample.
        values: pointer to float32 or float64 [same places]; the result has its dtype.
        vectors: pointer to [N, dim], of the values' dtype or bfloat16, contiguous.
        bias: pointer to [dim], of the values' dtype.
        component: tile [W] int32, components in ascending order; those from ``dim`` on give 0.
        dim: D.
        UNIT: a power of two that divides D, at most 16: what the rows are known to align to.
        SPLIT: whether in four partial sums, mode "split" of the gather, or in one, "exact".

    Lists that this program itself wrote need a barrier (``tl.debug_barrier``) before.
    """
    # The same number, in a form that shows what divides it.
    width = dim // UNIT * UNIT
    inside = component < width
    start = tl.load(bias + component, mask=inside, other=0)
    hidden = tl.broadcast_to(start[None, :], (begin.shape[0], component.shape[0]))
    most = tl.max(count, 0)
    if SPLIT:
        s0 = tl.zeros_like(hidden)
        s1 = s0
        s2 = s0
        s3 = s0
        for n in range(0, most, 4):
            s0 = add_entry(s0, n, begin, count, indices, values, vectors, component, inside, width)
            s1 = add_entry(
                s1, n + 1, begin, count, indices, values, vectors, component, inside, width
            )
            s2 = add_entry(
                s2, n + 2, begin, count, indices, values, vectors, component, inside, width
            )
            s3 = add_entry(
                s3, n + 3, begin, count, indices, values, vectors, component, inside, width
            )
        hidden = ((s0 + s2) + (s1 + s3)) + hidden
    else:
        for n in range(0, most, 4):
            # Four at a time, whose loads do not wait for each other.
            for k in tl.static_range(4):
                hidden = add_entry(
                    hidden, n + k, begin, count, indices, values, vectors, component, inside, width
                )
    return hidden


@triton.jit(do_not_specialize=["batch"])
def gather_kernel(
    offsets,  # [B + 1] int64
    indices,  # [nnz] int32 or int64
    values,  # [nnz] float32 or float64
    vectors,  # [N, D] of the values' dtype or bfloat16
    bias,  # [D] of the values' dtype
    hidden,  # [B, D] of the values' dtype
    batch,
    dim,
    SAMPLES: tl.constexpr,
    COMPONENTS: tl.constexpr,
    UNIT: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """A tile of samples at a tile of components, from bias to hidden activations."""
    sample = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    component = tl.program_id(1) * COMPONENTS + tl.arange(0, COMPONENTS)
    there = sample < batch
    begin = tl.load(offsets + sample, mask=there, other=0)
    count = (tl.load(offsets + sample + 1, mask=there, other=0) - begin).to(tl.int32)
    rows = gather_rows(begin, count, indices, values, vectors, bias, component, dim, UNIT, SPLIT)
    width = dim // UNIT * UNIT
    place = hidden + sample[:, None] * width + component[None, :]
    tl.store(place, rows, mask=there[:, None] & (component < width)[None, :])


def gather(
    activations: SparseActivations,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    /,
    *,
    mode: GatherMode = "exact",
) -> torch.Tensor:
    """Hidden activations [B, D]: ``h = bias``, then ``h = fma(value, vectors[feature], h)``.

    Modes (the stream's is "exact"; n is a sample's number of entries, and a component's terms are
    its bias and its products):

    - "exact": over the features ascending, every step rounded once. Same bits as the reference.
    - "bfloat16": "exact" with ``vectors.bfloat16().to(vectors.dtype)``, half the bytes. Where
      those are neither subnormal nor beyond bfloat16's range, that moves the exact sum by at most
      2**-9 of the sum of |value * vector|. The bfloat16 copy is kept, :func:`bfloat16_copy`.
    - "split": four partial sums, sum l over the entries l, l + 4, l + 8, ... from zero, by fma,
      then ``((s0 + s2) + (s1 + s3)) + bias``. Within (n + 4) * 2**-24 of the sum of the absolute
      terms from the exact sum (2**-53 in float64), as "exact" is within n * 2**-24.
    """
    return gather_entries(
        activations.offsets,
        activations.indices,
        activations.values.to(vectors.dtype),
        bfloat16_copy(vectors) if mode == "bfloat16" else vectors,
        bias,
        split=mode == "split",
    )


def gather_entries(
    offsets: torch.Tensor,
    indices: torch.Tensor,
    values: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    *,
    split: bool = False,
) -> torch.Tensor:
    """:func:`gather` of the arrays of a CSR matrix: "exact", or "split".

    Row b is ``bias`` and the sum of ``values[i] * vectors[indices[i]]`` for i from offsets[b] to
    offsets[b + 1] - 1. Indices may be int64.
    """
    batch, dim = offsets.numel() - 1, vectors.shape[1]
    hidden = torch.empty(batch, dim, dtype=values.dtype, device=values.device)
    components = min(_SAMPLES_TILE, max(32, triton.next_power_of_2(dim)))
    samples = _SAMPLES_TILE // components
    launch(
        gather_kernel,
        (triton.cdiv(batch, samples), triton.cdiv(dim, components)),
        offsets.contiguous(),
        indices.contiguous(),
        values.contiguous(),
        vectors.contiguous(),
        bias.contiguous(),
        hidden,
        batch,
        dim,
        SAMPLES=samples,
        COMPONENTS=components,
        UNIT=math.gcd(dim, 16),
        SPLIT=split,
        num_warps=_SAMPLES_WARPS,
    )
    return hidden


class _Copy(NamedTuple):
    state: tuple[Any, ...]
    rows: torch.Tensor
    stream: Any
    ready: Any


_copies = WeakTensorKeyDictionary()


def bfloat16_copy(vectors: torch.Tensor) -> torch.Tensor:
    """``vectors.bfloat16()``, made anew only where the tensor has changed since the last call.

    Changed is what counts torch's version of the tensor up (optimizers and any operation in
    place do), or gives it other memory. Writing through ``.data`` or from outside torch does
    neither. The copy goes with the tensor. In a CUDA graph's capture it is made anew, so that a
    replay rounds what the tensor holds by then.
    """
    if vectors.dtype == torch.bfloat16:
        return vectors
    on_gpu = vectors.device.type == "cuda"
    if vectors.is_inference() or (on_gpu and torch.cuda.is_current_stream_capturing()):
        return vectors.bfloat16()
    stream = torch.cuda.current_stream(vectors.device) if on_gpu else None
    copy = _copies.get(vectors)
    if copy is None or copy.state != _state(vectors):
        rows = vectors.detach().bfloat16().contiguous()
        copy = _Copy(_state(vectors), rows, stream, stream.record_event() if stream else None)
        _copies[vectors] = copy
    elif stream is not None and stream != copy.stream:
        stream.wait_event(copy.ready)
        copy.rows.record_stream(stream)
    return copy.rows


def _state(vectors: torch.Tensor) -> tuple[Any, ...]:
    place = vectors.data_ptr(), vectors.device, vectors.dtype
    return vectors._version, *place, vectors.shape, vectors.stride()


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
    components = min(_ENTRIES_COMPONENTS, max(32, triton.next_power_of_2(dim)))
    entries = _ENTRIES_TILE // components
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
        num_warps=_ENTRIES_WARPS,
    )
    return out
