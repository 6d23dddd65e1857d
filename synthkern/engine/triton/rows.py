"""Lists of active features, a sample's in one piece anywhere; and their CSR form."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch, on_gpu
from synthkern.sparse import SparseActivations


class Rows(NamedTuple):
    """Active features of B samples.

    Attributes:
        begin: [B] int64, where a sample's entries begin.
        counts: [B] int32, how many they are.
        indices: [size] int32, features, ascending within a sample.
        values: [size] float32.
        total: [1] int64, number of entries; where that is more than ``size``, not all of them
            are there.
    """

    begin: torch.Tensor
    counts: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor
    total: torch.Tensor

    def of_samples(self, samples: slice) -> Rows:
        """Some of the samples, with the same room."""
        return self._replace(begin=self.begin[samples], counts=self.counts[samples])

    @property
    def size(self) -> int:
        """Number of entries that there is room for."""
        return self.indices.numel()


@triton.jit(do_not_specialize=["batch_size"])
def collect_kernel(
    begin,  # [B] int64
    count,  # [B] int32
    offsets,  # [B + 1] int64
    from_indices,  # [size] int32
    from_values,  # [size] float32
    indices,  # [nnz] int32, out
    values,  # [nnz] float32, out
    batch_size,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Copies a tile of samples' entries to where they belong."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    source = tl.load(begin + row, mask=row < batch_size, other=0)
    target = tl.load(offsets + row, mask=row < batch_size, other=0)
    size = tl.load(count + row, mask=row < batch_size, other=0)
    for base in range(0, tl.max(size, axis=0), LANES):
        at = base + tl.arange(0, LANES)
        inside = at[None, :] < size[:, None]
        here = source[:, None] + at[None, :]
        there = target[:, None] + at[None, :]
        tl.store(indices + there, tl.load(from_indices + here, mask=inside), mask=inside)
        tl.store(values + there, tl.load(from_values + here, mask=inside), mask=inside)


def collect(rows: Rows, nnz: int, num_features: int) -> SparseActivations:
    """The CSR form of ``rows``, whose ``total`` is ``nnz``.

    Sample b is ``indices[begin[b]:begin[b] + count[b]]`` with the values there.
    """
    batch_size, device = rows.counts.numel(), rows.counts.device
    offsets = torch.zeros(batch_size + 1, dtype=torch.int64, device=device)
    torch.cumsum(rows.counts, 0, dtype=torch.int64, out=offsets[1:])
    indices = torch.empty(nnz, dtype=torch.int32, device=device)
    values = torch.empty(nnz, dtype=torch.float32, device=device)
    tile = 4 if on_gpu(device) else triton.next_power_of_2(max(1, batch_size))
    launch(
        collect_kernel,
        (triton.cdiv(batch_size, tile),),
        rows.begin,
        rows.counts,
        offsets,
        rows.indices,
        rows.values,
        indices,
        values,
        batch_size,
        ROWS=tile,
        LANES=32,
        num_warps=1,
    )
    return SparseActivations(offsets, indices, values, num_features, validate=False)


@triton.jit(do_not_specialize=["batch_size"])
def drop_zeros_kernel(
    begin,  # [B] int64
    count,  # [B] int32, in and out
    indices,  # [size] int32, in and out
    values,  # [size] float32, in and out
    batch_size,
    LANES: tl.constexpr,
):
    """Moves a sample's entries that are not zero to the front."""
    for row in range(tl.program_id(0), batch_size, tl.num_programs(0)):
        at = tl.load(begin + row)
        size = tl.load(count + row)
        kept = 0
        for base in range(0, size, LANES):
            i = base + tl.arange(0, LANES)
            feature = tl.load(indices + at + i, mask=i < size, other=0)
            value = tl.load(values + at + i, mask=i < size, other=0.0)
            stays = (value != 0).to(tl.int32)
            to = at + kept + tl.cumsum(stays, axis=0) - stays
            tl.debug_barrier()
            tl.store(indices + to, feature, mask=value != 0)
            tl.store(values + to, value, mask=value != 0)
            kept += tl.sum(stays, axis=0)
            tl.debug_barrier()
        tl.store(count + row, kept)


def drop_zeros(rows: Rows) -> None:
    """Takes the entries with value 0 out of every sample, in place; ``total`` stays as it was."""
    batch_size = rows.counts.numel()
    launch(
        drop_zeros_kernel,
        (batch_size if on_gpu(rows.counts.device) else min(1, batch_size),),
        rows.begin,
        rows.counts,
        rows.indices,
        rows.values,
        batch_size,
        LANES=128 if on_gpu(rows.counts.device) else 1024,
        num_warps=1,
    )
