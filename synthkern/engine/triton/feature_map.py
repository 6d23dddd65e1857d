"""Sparse maps of CSR activations to outputs on the GPU.

The floor: an edge of what fires reads 8 bytes of the map and reads and writes a sum, which stays in
the L2; of a batch of B samples with K outputs 4 * B * K bytes of sums are set to zero, have the
thresholds taken off, and are read for what is above zero.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.reference import feature_map as reference
from synthkern.engine.triton.launch import launch, on_gpu
from synthkern.engine.triton.select import select_above
from synthkern.sparse import SparseActivations

#: Sums that are held at a time, 64 MiB.
_SUMS = 2**24
#: Edges of a feature that a program, one warp, adds at a time; in the interpreter all of most.
_LANES, _ALL = 32, 1024


@triton.jit(do_not_specialize=["first"])
def map_sums_kernel(
    offsets,  # [B + 1] int64
    indices,  # [nnz] int32
    values,  # [nnz] float32
    edge_offsets,  # [N + 1] int64
    edge_outputs,  # [E] int32, each feature's ascending
    weights,  # [E] float32
    sums,  # [S, K] float32, zeros, in and out
    first,  # sample of the first row of sums
    outputs,  # K
    LANES: tl.constexpr,
):
    """Adds the edges of a sample's entries, one entry after the other, to its row of sums."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + first + row)
    end = tl.load(offsets + first + row + 1)
    for i in range(begin, end):
        feature = tl.load(indices + i).to(tl.int64)
        value = tl.load(values + i)
        edge_begin = tl.load(edge_offsets + feature)
        edge_end = tl.load(edge_offsets + feature + 1)
        for base in range(edge_begin, edge_end, LANES):
            edge = base + tl.arange(0, LANES)
            inside = edge < edge_end
            place = sums + row * outputs + tl.load(edge_outputs + edge, mask=inside, other=0)
            weight = tl.load(weights + edge, mask=inside, other=0.0)
            total = tl.load(place, mask=inside, other=0.0)
            tl.store(place, tl.fma(weight, tl.zeros_like(weight) + value, total), mask=inside)
        # Another lane may go on with what this one has written.
        tl.debug_barrier()


def apply_map(
    activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor, /
) -> SparseActivations:
    """Outputs [B, K]; waits for the device, as their number is known there. float64 is the
    reference's.
    """
    if activations.dtype != torch.float32:
        return reference.apply_map(activations, weights, thresholds)
    batch, outputs = activations.batch_size, weights.num_features
    rows = max(1, _SUMS // max(1, outputs))
    parts = []
    for first in range(0, max(1, batch), rows):
        sums = activations.values.new_zeros(min(rows, batch - first), outputs)
        launch(
            map_sums_kernel,
            (len(sums) if outputs else 0,),
            activations.offsets,
            activations.indices,
            activations.values,
            weights.offsets,
            weights.indices,
            weights.values,
            sums,
            first,
            outputs,
            LANES=_LANES if on_gpu(sums.device) else _ALL,
            num_warps=1,
        )
        parts.append(select_above(sums.sub_(thresholds), torch.zeros_like(thresholds)))
    return SparseActivations.cat(parts)
