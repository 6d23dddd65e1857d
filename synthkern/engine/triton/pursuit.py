"""Matching pursuit on the GPU: one dense product, then a program per sample chooses.

A program holds its sample's M correlations in registers, and its residual; a choice takes off a
row of the vectors' Gram matrix. The floor: the two dense products, 2 * M * D * (B + M) operations,
and what the choices read, M + D numbers each, of Gram matrix and vectors, from the L2 where they
fit there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.reference import pursuit as reference
from synthkern.engine.triton.gather import gather_grad_vectors
from synthkern.engine.triton.launch import launch
from synthkern.engine.triton.rows import Rows, collect
from synthkern.sparse import SparseActivations

#: Correlations that a program can hold: 32 in each lane of 16 warps, the most that there are; 16
#: where fewer warps do. Beyond, where the Gram matrix would take more than 1 GiB too, the reference
#: serves.
_MOST = 16_384
_PER_WARP, _WARPS = 512, 16


@triton.jit
def _places(row, tile: tl.constexpr, width):
    """Numbers [tile] of a row's places, where they lie in [rows, width], and which there are."""
    at = tl.arange(0, tile)
    return at, row.to(tl.int64) * width + at, at < width


@triton.jit(do_not_specialize=["iterations"])
def pursue_kernel(
    inputs,  # [B, D] float32
    vectors,  # [M, D] float32
    gram,  # [M, M] float32
    correlations,  # [B, M] float32
    counts,  # [B] int32, out
    indices,  # [B, iterations] int32, out
    values,  # [B, iterations] float32, out
    width,
    dim,
    iterations,
    residual_threshold,
    STOP_ON_REPEAT: tl.constexpr,
    LATENTS: tl.constexpr,
    COMPONENTS: tl.constexpr,
):
    """A sample's choices; LATENTS and COMPONENTS are at least M and D."""
    row = tl.program_id(0)
    latent, place, there = _places(row, LATENTS, width)
    # What is not there is 0, as is what must not be chosen.
    left = tl.load(correlations + place, mask=there, other=0.0)
    component, place, inside = _places(row, COMPONENTS, dim)
    residual = tl.load(inputs + place, mask=inside, other=0.0)
    seen = tl.zeros((LATENTS,), tl.int32)
    room = row.to(tl.int64) * iterations
    count = 0
    runs = iterations > 0
    while runs:
        # NaN is the largest, so that it shows; of equal ones the first.
        key = tl.where(left != left, 0x7FFFFFFF, tl.maximum(left, 0.0).to(tl.int32, bitcast=True))
        most, best = tl.max(key, 0, return_indices=True)
        vector = tl.load(vectors + best.to(tl.int64) * dim + component, mask=inside, other=0.0)
        # From the residual itself: the correlations, updated many times, only say where.
        value = tl.sum(residual * vector, 0)
        runs = (most > 0) & ~(value <= 0)
        if runs:
            tl.store(indices + room + count, best)
            tl.store(values + room + count, value)
            count += 1
            residual -= value * vector
            square = tl.sum(residual * residual, 0)
            runs = (count < iterations) & ~(square < residual_threshold * residual_threshold)
            if STOP_ON_REPEAT:
                runs = runs & (tl.sum(tl.where(latent == best, seen, 0), 0) == 0)
                seen = tl.where(latent == best, 1, seen)
            if runs:
                products = tl.load(gram + best.to(tl.int64) * width + latent, mask=there, other=0.0)
                left -= value * products
    tl.store(counts + row, count)


def pursue(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
    /,
) -> SparseActivations:
    """What every sample chooses, one after the other; waits for the device once, for how many."""
    (batch, dim), width = inputs.shape, len(vectors)
    if inputs.dtype != torch.float32 or not 0 < width <= _MOST or not dim or iterations == 0:
        return reference.pursue(inputs, vectors, residual_threshold, iterations, stop_on_repeat)
    inputs, vectors = inputs.detach().contiguous(), vectors.detach().contiguous()
    device, room = inputs.device, batch * iterations
    rows = Rows(
        begin=iterations * torch.arange(batch, device=device),
        counts=torch.zeros(batch, dtype=torch.int32, device=device),
        indices=torch.empty(room, dtype=torch.int32, device=device),
        values=torch.empty(room, dtype=torch.float32, device=device),
        total=torch.empty(1, dtype=torch.int64, device=device),
    )
    latents, components = triton.next_power_of_2(width), triton.next_power_of_2(dim)
    launch(
        pursue_kernel,
        (batch,),
        inputs,
        vectors,
        vectors @ vectors.T,
        inputs @ vectors.T,
        rows.counts,
        rows.indices,
        rows.values,
        width,
        dim,
        iterations,
        float(residual_threshold),
        STOP_ON_REPEAT=stop_on_repeat,
        LATENTS=latents,
        COMPONENTS=components,
        num_warps=max(1, min(_WARPS, max(latents, components) // _PER_WARP)),
    )
    torch.sum(rows.counts, 0, keepdim=True, out=rows.total)
    return collect(rows, int(rows.total), width)


@triton.jit
def shares_kernel(
    inputs,  # [B, D] float32
    vectors,  # [M, D] float32
    offsets,  # [B + 1] int64
    indices,  # [nnz] int32
    values,  # [nnz] float32
    grad,  # [nnz] float32
    grad_inputs,  # [B, D] float32, out
    shares,  # [nnz, D] float32, out
    dim,
    COMPONENTS: tl.constexpr,
):
    """A sample's gradient, and its choices' shares of their vectors' gradients.

    The residual after each choice is taken forwards, and backwards again from the last.
    """
    row = tl.program_id(0)
    component, place, inside = _places(row, COMPONENTS, dim)
    residual = tl.load(inputs + place, mask=inside, other=0.0)
    begin = tl.load(offsets + row)
    count = (tl.load(offsets + row + 1) - begin).to(tl.int32)
    for nth in range(count):
        latent = tl.load(indices + begin + nth).to(tl.int64)
        vector = tl.load(vectors + latent * dim + component, mask=inside, other=0.0)
        residual -= tl.load(values + begin + nth) * vector
    later = tl.zeros((COMPONENTS,), tl.float32)
    for back in range(count):
        entry = begin + count - 1 - back
        latent = tl.load(indices + entry).to(tl.int64)
        value = tl.load(values + entry)
        vector = tl.load(vectors + latent * dim + component, mask=inside, other=0.0)
        residual += value * vector
        own = tl.load(grad + entry) - tl.sum(later * vector, 0)
        share = own * residual - value * later
        tl.store(shares + entry * dim + component, share, mask=inside)
        later += own * vector
    tl.store(grad_inputs + place, later, mask=inside)


def pursue_grad(
    inputs: torch.Tensor, vectors: torch.Tensor, choices: SparseActivations, grad: torch.Tensor, /
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the inputs and the vectors; the same bits at every call."""
    if inputs.dtype != torch.float32:
        return reference.pursue_grad(inputs, vectors, choices, grad)
    (batch, dim), device = inputs.shape, inputs.device
    grad_inputs = torch.empty(batch, dim, device=device)
    shares = torch.empty(choices.nnz, dim, device=device)
    components = triton.next_power_of_2(max(1, dim))
    launch(
        shares_kernel,
        (batch,),
        inputs.contiguous(),
        vectors.contiguous(),
        choices.offsets,
        choices.indices,
        choices.values.contiguous(),
        grad.contiguous(),
        grad_inputs,
        shares,
        dim,
        COMPONENTS=components,
        num_warps=max(1, min(_WARPS, components // _PER_WARP)),
    )
    # Each share is added once, as if every choice were a sample of its own.
    each = torch.arange(choices.nnz + 1, device=device)
    once = SparseActivations(
        each, choices.indices, torch.ones(choices.nnz, device=device), len(vectors), validate=False
    )
    return grad_inputs, gather_grad_vectors(once, shares)
