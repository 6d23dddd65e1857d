"""The factors of a copula: standard normals of every sample."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch, on_gpu
from synthkern.engine.triton.sample.held import Held, held_index, no_tables
from synthkern.engine.triton.stream import (
    FACTOR,
    FACTOR_SCHEDULE,
    block,
    index_of,
    normal,
    seed_of,
)


@triton.jit(do_not_specialize=["first", "rows", "length", "factor_law"])
def factors_kernel(
    position,  # [2] int64
    table,  # [513, 4] float32
    factor,  # [rows, padded] float32, out
    norm,  # [rows] float32, out
    laws,  # [M, 3] int32, of sequences
    threshold,  # [K] int32
    first,  # the first row's sample within the batch
    rows,
    rank,
    padded,
    length,
    factor_law,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    HELD: tl.constexpr,
):
    """A tile of rows by all their factors, four to a block of words."""
    lane = tl.arange(0, ROWS * BLOCKS)
    row = tl.program_id(0) * ROWS + lane // BLOCKS
    key_low, key_high = seed_of(position)
    low, high = index_of(position, first + row)
    out = factor + row.to(tl.int64) * padded
    square = tl.zeros((ROWS * BLOCKS,), tl.float32)
    for base in range(0, padded, 4 * BLOCKS):
        element = base // 4 + lane % BLOCKS
        if HELD == 0:
            w0, w1, w2, w3 = block(FACTOR, element.to(tl.uint32), low, high, key_low, key_high)
            square += _put(normal(w0, table), out, 4 * element, row < rows, rank, padded)
            square += _put(normal(w1, table), out, 4 * element + 1, row < rows, rank, padded)
            square += _put(normal(w2, table), out, 4 * element + 2, row < rows, rank, padded)
            square += _put(normal(w3, table), out, 4 * element + 3, row < rows, rank, padded)
        else:
            for w in tl.static_range(4):
                k = 4 * element + w
                its_low, its_high = held_index(
                    k, FACTOR_SCHEDULE, tl.zeros_like(k) + factor_law, low, high,
                    key_low, key_high, laws, threshold, length, HELD,
                )  # fmt: skip
                words = block(FACTOR, element.to(tl.uint32), its_low, its_high, key_low, key_high)
                square += _put(normal(words[w], table), out, k, row < rows, rank, padded)
    total = tl.sum(tl.reshape(square, (ROWS, BLOCKS)), axis=1)
    every = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tl.store(norm + every, tl.sqrt(total), mask=every < rows)


@triton.jit
def _put(x, out, k, live, rank, padded):
    """Store factor k, zero behind the last, and give its square."""
    x = tl.where(k < rank, x, 0.0)
    tl.store(out + k, x, mask=live & (k < padded))
    return x * x


def draw_factors(
    position: torch.Tensor,
    table: torch.Tensor,
    first: int,
    rows: int,
    rank: int,
    padded: int,
    held: Held | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors [rows, padded] of samples first ... first + rows - 1 of a batch, and their norms.

    Equals ``pad(factor_normals(rank, index, seed))`` of :mod:`synthkern.stream.words` bit for
    bit, along sequences ``held_factor_normals`` of held indices; the norms [rows] are
    ``factors.norm(dim=1)`` up to rounding.
    """
    factor = torch.empty(rows, padded, dtype=torch.float32, device=table.device)
    norm = torch.empty(rows, dtype=torch.float32, device=table.device)
    # A warp's 32 lanes take 4 samples by 8 blocks, the 32 factors of a usual rank; reasoned.
    blocks = min(64, triton.next_power_of_2(padded // 4))
    tile = max(1, 32 // blocks) if on_gpu(table.device) else triton.next_power_of_2(rows)
    grid = (triton.cdiv(rows, tile),)
    held = no_tables(table.device) if held is None else held
    launch(
        factors_kernel,
        grid,
        position,
        table,
        factor,
        norm,
        held.laws,
        held.threshold,
        first,
        rows,
        rank,
        padded,
        held.length,
        held.factor_law,
        ROWS=tile,
        BLOCKS=blocks,
        HELD=held.depth,
        num_warps=1,
    )
    return factor, norm
