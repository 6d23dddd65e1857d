"""Sampling a plan: factors, screen, exact draw and gather, with nothing of size B x N and no wait.

Three launches a batch: the factors (under a copula), the screen, and the drawing, which ends in
the lists of active features, in hidden activations, or in both. Its lists live in a program's
own scratch memory. They have room for several times the features that are active on average; a
tile of samples that needs more is put on a list of tiles, and the drawing is launched once more for
those with room for every feature, so that nothing is lost and nobody waits to see whether it was
needed.

What a batch must cost, for SynthSAEBench-16k on an H200 (132 multiprocessors at 1.7 GHz, 128
32-bit lanes each: 2.9e13 operations a second; 4.8 TB/s of memory, about 5.5 TB/s of L2), a sample:

==========  ===============================================================  =================
stage       work                                                             least time
==========  ===============================================================  =================
screen      352 Philox blocks of 80 operations, 5,632 bounds of 10; the      3 ns
            product of 5,632 x 32 loadings is 0.4 million operations on the
            tensor cores
draw        about 180 features drawn, 2 Philox blocks, 50 multiplications    2 ns
            and additions and 2 normals each: 300 operations
gather      34 rows of 3,072 bytes from L2, 3,072 bytes written              20 ns
==========  ===============================================================  =================

so that 40 million samples a second are the floor with hidden activations and 200 million without:
arithmetic on what the data sheets say, not a measurement. ``benchmarks/gpu.py`` measures.

Along sequences every feature that is looked at has a schedule and a coarse block of its own: the
screen draws 5,632 of each, 32 times the blocks and 31 ns, and searches tables of thresholds 11,264
times, about nine steps of six operations and a load that hits the caches: 21 ns. A feature that is
drawn takes one block and two searches more, a factor a block and a half and two searches more.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from synthkern.engine.backend import Drawn, Noise
from synthkern.engine.triton.forest import apply_forest_csr
from synthkern.engine.triton.gather import gather, gather_rows
from synthkern.engine.triton.launch import launch, position_on, processors
from synthkern.engine.triton.noise import add_noise_at
from synthkern.engine.triton.rows import Rows, collect, drop_zeros
from synthkern.engine.triton.sample.draw import draw_children, draw_grouped_roots, draw_survivors
from synthkern.engine.triton.sample.factors import draw_factors
from synthkern.engine.triton.sample.lists import (
    LISTS,
    first_scratch,
    second_scratch,
    sort_entries,
    span_of,
    within_reach,
    words_a_row,
)
from synthkern.engine.triton.sample.manifolds import apply_manifolds
from synthkern.engine.triton.sample.plan import BoundPlan, bound_plan
from synthkern.engine.triton.sample.screen import screen_features
from synthkern.engine.triton.sample.tiles import Tiles, tiles_for
from synthkern.engine.triton.stream import seed_of
from synthkern.plan import Plan

#: Bytes for the factors and masks of the samples that one launch takes.
_CHUNK_BYTES = 2**28
#: Samples that one launch takes at most: a grid's second axis has 65,535 places, for 16 or more.
_MOST_ROWS = 2**19
#: Bytes for the entries of a batch whose later forests are applied without knowing how many.
_ENTRY_BYTES = 2**29


@triton.jit(do_not_specialize=["first", "rows", "size", "again", "length"])
def sample_kernel(
    position,  # [2] int64
    mask,  # [rows, blocks] int16, of the screen
    factor,  # [rows, padded] float32
    block_of,  # [blocks] int32
    columns,  # [N, 4] int32
    loading,  # [N, padded] float32
    table,  # [513, 4] float32
    nodes,  # [K, 4] int32
    node_of,  # [N] int32
    grouped,  # [G] int32
    survivors,  # [programs, 2, 16 * ROWS * BLOCKS + LANES] int32, scratch
    lists,  # [programs, LISTS, capacity] int32, scratch
    words,  # [programs, 2, ROWS * words_a_row] int32, scratch
    in_order,  # [programs, capacity] int32, scratch: features
    in_order_value,  # [programs, capacity] float32, scratch
    waiting,  # [1 + tiles] int32, the number of tiles that need longer lists, and which
    total,  # [1] int64, out: number of entries
    indices,  # [size] int32, out
    values,  # [size] float32, out
    row_begin,  # [rows] int64, out
    row_count,  # [rows] int32, out
    vectors,  # [N, D] float32
    bias,  # [D] float32
    hidden,  # [rows, D] float32, out
    law,  # [1 + N, 2] float32, of the magnitudes
    exponentials,  # [288, 4] float32
    law_of,  # [N] int32, of sequences
    laws,  # [M, 3] int32
    threshold,  # [K] int32
    first,  # the first row's sample within the batch
    rows,
    blocks,
    num_grouped,
    capacity,
    words_a_row,
    size,
    again,  # whether only the waiting tiles are taken
    dim,
    length,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCKS: tl.constexpr,
    GATHERED: tl.constexpr,
    COMPONENTS: tl.constexpr,
    PADDED: tl.constexpr,
    TRIANGULAR: tl.constexpr,
    FOREST: tl.constexpr,
    GROUPS: tl.constexpr,
    ROOTS: tl.constexpr,
    FEATURES: tl.constexpr,
    HIDDEN: tl.constexpr,
    UNIT: tl.constexpr,
    LAW: tl.constexpr,
    HELD: tl.constexpr,
):
    """A tile of rows after the other, each from the screen's mask to what is asked for."""
    program = tl.program_id(0).to(tl.int64)
    survivors += program * (2 * (16 * ROWS * BLOCKS + LANES))
    lists += program * LISTS * capacity
    words += program * 2 * ROWS * words_a_row
    in_order += program * capacity
    in_order_value += program * capacity
    key_low, key_high = seed_of(position)
    start = tl.load(position + 1).to(tl.uint64) + first
    tiles = tl.cdiv(rows, ROWS)
    if again:
        tiles = tl.load(waiting)
    for turn in range(tl.program_id(0), tiles, tl.num_programs(0)):
        tile = turn
        if again:
            tile = tl.load(waiting + 1 + turn)
        tile_row = tile * ROWS
        entries = 0
        if ROOTS:
            entries = draw_grouped_roots(
                key_low, key_high, start,
                tile_row, rows, grouped, num_grouped, nodes, factor, columns,
                loading, table, law_of, laws, threshold, length, lists, capacity, entries,
                law, exponentials, ROWS, LANES, PADDED, TRIANGULAR, LAW, HELD,
            )  # fmt: skip
        entries = draw_survivors(
            key_low, key_high, start,
            tile_row, rows, mask, block_of, blocks, factor, columns, loading,
            table, law_of, laws, threshold, length, node_of, survivors, lists, capacity, entries,
            law, exponentials, ROWS, LANES, BLOCKS, PADDED, TRIANGULAR, FOREST, GROUPS, LAW, HELD,
        )  # fmt: skip
        if FOREST:
            begin = 0
            end = tl.minimum(entries, capacity)
            while begin < end:
                entries = draw_children(
                    key_low, key_high, start,
                    tile_row, rows, nodes, factor, columns, loading, table,
                    law_of, laws, threshold, length,
                    lists, capacity, begin, end, entries, law, exponentials,
                    LANES, PADDED, TRIANGULAR, GROUPS, LAW, HELD,
                )  # fmt: skip
                begin = end
                end = tl.minimum(entries, capacity)
        if entries > capacity:
            tl.store(waiting + 1 + tl.atomic_add(waiting, 1, sem="relaxed"), tile)
        else:
            kept = sort_entries(
                lists, capacity, entries, words, words_a_row, in_order, in_order_value, ROWS, LANES
            )
            if FEATURES:
                base = tl.atomic_add(total, kept.to(tl.int64), sem="relaxed")
                row = tl.arange(0, ROWS)
                at_row, count = span_of(words, words_a_row, row, kept, ROWS)
                live = tile_row + row < rows
                tl.store(row_begin + tile_row + row, base + at_row, mask=live)
                tl.store(row_count + tile_row + row, count, mask=live)
                if base + kept <= size:
                    for at in range(0, kept, LANES):
                        i = at + tl.arange(0, LANES)
                        feature = tl.load(in_order + i, mask=i < kept)
                        value = tl.load(in_order_value + i, mask=i < kept)
                        tl.store(indices + base + i, feature, mask=i < kept)
                        tl.store(values + base + i, value, mask=i < kept)
            if HIDDEN:
                width = dim // UNIT * UNIT
                for base_row in range(0, ROWS, GATHERED):
                    some = base_row + tl.arange(0, GATHERED)
                    from_entry, entry_count = span_of(words, words_a_row, some, kept, ROWS)
                    out = hidden + (tile_row + some).to(tl.int64)[:, None] * width
                    there = (tile_row + some < rows)[:, None]
                    for component in range(0, dim, COMPONENTS):
                        d = component + tl.arange(0, COMPONENTS)
                        sums = gather_rows(
                            from_entry, entry_count, in_order, in_order_value, vectors, bias, d,
                            dim, UNIT, False,
                        )  # fmt: skip
                        tl.store(out + d[None, :], sums, mask=there & (d < dim)[None, :])
            # The next tile writes the lists that this one reads.
            tl.debug_barrier()


def sample(
    plan: Plan,
    seed: int,
    start: int,
    count: int,
    features: bool,
    vectors: torch.Tensor | None,
    bias: torch.Tensor | None,
    noise: Noise | None = None,
    /,
) -> Drawn:
    """Draw samples; the host waits only to learn the size of the features that are asked for.

    Equals :func:`synthkern.engine.reference.sampler.sample` bit for bit.
    """
    position = position_on(plan.device, seed, start)
    if features:
        drawn = _with_features(plan, position, count, vectors, bias)
        if noise is not None and drawn.hidden is not None:
            add_noise_at(drawn.hidden, noise, position)
        return drawn
    if vectors is None or bias is None:
        return Drawn(None, None)
    return Drawn(None, sample_hidden_at(plan, position, count, vectors, bias, noise))


def sample_hidden_at(
    plan: Plan,
    position: torch.Tensor,
    count: int,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    noise: Noise | None = None,
    /,
) -> torch.Tensor:
    """Hidden activations [count, D] of the samples from ``position`` on, without any wait.

    What is launched reads ``position`` [2] when it runs. Equals ``sample(plan, seed, start,
    count, False, vectors, bias, noise).hidden``.
    """
    hidden = _hidden_at(plan, position, count, vectors, bias)
    if noise is not None:
        add_noise_at(hidden, noise, position)
    return hidden


def _hidden_at(
    plan: Plan, position: torch.Tensor, count: int, vectors: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The same without noise."""
    bound = bound_plan(plan)
    hidden = torch.empty(count, vectors.shape[1], device=plan.device)
    if not _has_later(plan):
        _enqueue(bound, position, 0, count, None, vectors, bias, hidden)
        return hidden
    lists = 1 if plan.manifolds is None else 1 + plan.manifolds.width
    most = max(1, _ENTRY_BYTES // (8 * lists * plan.num_features))
    for first in range(0, count, most):
        part = hidden[first : first + most]
        rows = _empty_rows(plan, part.shape[0], part.shape[0] * plan.num_features)
        _enqueue(bound, position, first, part.shape[0], rows, None, None, None)
        rows = _apply_later(plan, position, first, rows)
        entries = collect(rows, rows.size, plan.num_features)
        part.copy_(gather(entries, vectors, bias))
    return hidden


def _with_features(
    plan: Plan,
    position: torch.Tensor,
    count: int,
    vectors: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> Drawn:
    bound = bound_plan(plan)
    later = _has_later(plan)
    hidden = None
    if vectors is not None and not later:
        hidden = torch.empty(count, vectors.shape[1], device=plan.device)
    size = int(1.25 * bound.expected * count) + 1024
    while True:
        rows = _empty_rows(plan, count, size)
        _enqueue(bound, position, 0, count, rows, vectors, bias, hidden)
        nnz = int(rows.total)
        if nnz <= size:
            break
        # The count is right even where there was no room, so that this happens once.
        size = nnz
    if later:
        rows = _apply_later(plan, position, 0, rows)
        nnz = int(rows.counts.sum())
    drawn = collect(rows, nnz, plan.num_features)
    if vectors is not None and bias is not None and later:
        hidden = gather(drawn, vectors, bias)
    return Drawn(drawn, hidden)


def _empty_rows(plan: Plan, count: int, size: int) -> Rows:
    device = plan.device
    return Rows(
        begin=torch.empty(count, dtype=torch.int64, device=device),
        counts=torch.empty(count, dtype=torch.int32, device=device),
        indices=torch.empty(size, dtype=torch.int32, device=device),
        values=torch.empty(size, dtype=torch.float32, device=device),
        total=torch.zeros(1, dtype=torch.int64, device=device),
    )


def _has_later(plan: Plan) -> bool:
    """Whether lists of active features are changed after they are drawn."""
    return len(plan.forests) > 1 or plan.manifolds is not None


def _apply_later(plan: Plan, position: torch.Tensor, first: int, rows: Rows) -> Rows:
    """Forests after the first, and manifolds, on rows of samples from number ``first`` on."""
    if first:
        position = position.clone()
        position[1] += first
    for ordinal, forest in enumerate(plan.forests[1:], start=1):
        apply_forest_csr(
            forest,
            rows.begin,
            rows.counts,
            rows.indices,
            rows.values,
            plan.mean,
            position,
            ordinal,
            plan.num_features,
        )
    drop_zeros(rows)
    return rows if plan.manifolds is None else apply_manifolds(plan.manifolds, rows, position)


def _enqueue(
    bound: BoundPlan,
    position: torch.Tensor,
    first: int,
    count: int,
    entries: Rows | None,
    vectors: torch.Tensor | None,
    bias: torch.Tensor | None,
    hidden: torch.Tensor | None,
) -> None:
    """Launch what fills ``entries`` and ``hidden`` with ``count`` samples from ``first`` on."""
    dim = None if hidden is None else hidden.shape[1]
    tiles = within_reach(tiles_for(bound, count, dim), bound.plan.num_features)
    a_row = 4 * bound.padded_rank + 4 + 2 * bound.screen.num_blocks
    # In whole tiles, and lines of memory, so that no launch is specialised for a part of a batch.
    whole = max(16, tiles.rows)
    most = max(1, min(_CHUNK_BYTES // a_row, _MOST_ROWS) // whole) * whole
    if vectors is not None and bias is not None:
        vectors, bias = vectors.contiguous(), bias.contiguous()
    for begin in range(0, count, most):
        chunk = slice(begin, min(begin + most, count))
        _enqueue_chunk(
            bound,
            position,
            tiles,
            first + begin,
            chunk.stop - begin,
            None if entries is None else entries.of_samples(chunk),
            vectors,
            bias,
            None if hidden is None else hidden[chunk],
        )


def _enqueue_chunk(
    bound: BoundPlan,
    position: torch.Tensor,
    tiles: Tiles,
    first: int,
    rows: int,
    entries: Rows | None,
    vectors: torch.Tensor | None,
    bias: torch.Tensor | None,
    hidden: torch.Tensor | None,
) -> None:
    plan, device = bound.plan, position.device
    factor = norm = torch.empty(0, 0, device=device)
    if plan.rank:
        factor, norm = draw_factors(
            position, bound.table, first, rows, plan.rank, bound.padded_rank, bound.held
        )
    mask = screen_features(
        bound.screen,
        position,
        factor,
        norm,
        first,
        rows,
        tiles.screen_rows,
        tiles.screen_blocks,
        tiles.screen_warps,
        bound.held,
    )
    programs = processors(device) * tiles.programs
    n = plan.num_features
    scratches = (
        first_scratch(tiles, rows, n, bound.expected, programs),
        second_scratch(tiles, rows, n),
    )
    size = max(scratch.size for scratch in scratches)
    memory = torch.empty(size, dtype=torch.int32, device=device)
    waiting = torch.zeros(1 + triton.cdiv(rows, tiles.rows), dtype=torch.int32, device=device)
    fills, is_hidden = entries is not None, hidden is not None
    if entries is None:
        entries = _empty_rows(plan, 0, 0)
    if vectors is None or bias is None or hidden is None:
        vectors = bias = hidden = torch.empty(0, 0, device=device)
    dim = hidden.shape[1]
    for again, scratch in enumerate(scratches):
        launch(
            sample_kernel,
            (scratch.programs,),
            position,
            mask,
            factor,
            bound.screen.block_of,
            bound.columns,
            plan.factor,
            bound.table,
            bound.nodes,
            bound.node_of,
            bound.grouped,
            *scratch.cut(memory),
            waiting,
            entries.total,
            entries.indices,
            entries.values,
            entries.begin,
            entries.counts,
            vectors,
            bias,
            hidden,
            bound.law,
            bound.exponentials,
            bound.held.law_of,
            bound.held.laws,
            bound.held.threshold,
            first,
            rows,
            bound.screen.num_blocks,
            bound.grouped.numel(),
            scratch.capacity,
            words_a_row(n),
            entries.size,
            again,
            dim,
            bound.held.length,
            ROWS=tiles.rows,
            LANES=tiles.lanes,
            BLOCKS=tiles.blocks,
            GATHERED=tiles.gathered,
            COMPONENTS=tiles.components,
            PADDED=bound.padded_rank,
            TRIANGULAR=plan.triangular,
            FOREST=bound.nodes.numel() > 0,
            GROUPS=bound.in_groups,
            ROOTS=bound.grouped.numel() > 0,
            FEATURES=fills,
            HIDDEN=is_hidden,
            UNIT=math.gcd(dim, 16),
            LAW=0 if plan.magnitudes is None else plan.magnitudes.flags,
            HELD=bound.held.depth,
            num_warps=tiles.warps,
            # Its lists are written where they are read: nothing may be loaded ahead.
            num_stages=1,
        )
        if scratch.capacity >= tiles.rows * n:
            break  # nothing can be waiting
