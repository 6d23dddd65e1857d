"""Features drawn exactly: those that passed the screen, and the forest below those that fire."""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.engine.triton.sample.held import held_index
from synthkern.engine.triton.sample.lists import BEFORE, NODE, ROW, VALUE, append, keep_max_priority
from synthkern.engine.triton.sample.magnitudes import magnitudes_of
from synthkern.engine.triton.stream import (
    FEATURE,
    block,
    coarse_byte,
    four_of,
    halves,
    normal,
    ones,
)


@triton.jit
def draw(
    key_low,
    key_high,
    start,
    tile_row,
    rows,
    row,
    feature,
    factor,  # [rows, padded] float32
    columns,  # [N, 4] int32: threshold and noise or byte and word of fire_below; mean; std
    loading,  # [N, padded] float32
    table,  # [513, 4] float32
    law,  # [1 + N, 2] float32, where there is one: see magnitudes_of
    exponentials,  # [288, 4] float32
    law_of,  # [N] int32, of sequences
    laws,  # [M, 3] int32
    threshold,  # [K] int32
    length,
    PADDED: tl.constexpr,
    TRIANGULAR: tl.constexpr,
    LAW: tl.constexpr,
    HELD: tl.constexpr,
):
    """Values [L] of features of the tile's rows, zero where they do not fire, and their priorities.

    ``start`` is the index of row 0, uint64. Rows behind the last are drawn as that one.
    """
    sample = tl.minimum(tile_row + row, rows - 1)
    low, high = halves(start + sample.to(tl.uint64))
    if HELD > 0:
        own_law = tl.load(law_of + feature)
        low, high = held_index(
            feature, 0, own_law, low, high, key_low, key_high, laws, threshold, length, HELD
        )
    byte = coarse_byte(feature, low, high, key_low, key_high)
    w0, w1, w2, w3 = block(FEATURE, feature.to(tl.uint32), low, high, key_low, key_high)
    first, second, mean, std = four_of(columns, feature)
    if PADDED == 0:
        below = (first.to(tl.int64) << 32) | (second.to(tl.int64) & 0xFFFFFFFF)
        fires = ((byte.to(tl.int64) << 32) | w0.to(tl.int64)) < below
    else:
        fires_above = first.to(tl.float32, bitcast=True)
        scale = second.to(tl.float32, bitcast=True)
        factor_row = factor + sample.to(tl.int64) * PADDED
        s = _product(factor_row, feature, loading, PADDED, TRIANGULAR)
        fires = s + scale * normal((byte << 24) | (w0 >> 8), table) > fires_above
    z = normal(w1, table)
    if LAW == 0:
        value = mean.to(tl.float32, bitcast=True) + std.to(tl.float32, bitcast=True) * z
    else:
        # What magnitudes have in common is the sample's own, whatever is held.
        low, high = halves(start + sample.to(tl.uint64))
        value = magnitudes_of(
            feature, z, low, high, key_low, key_high, table, law, exponentials, LAW
        )
    return tl.where(fires & (value > 0), value, 0.0), w2, w3


@triton.jit
def _product(factor_row, feature, loading, PADDED: tl.constexpr, TRIANGULAR: tl.constexpr):
    """Loadings times factors [L] in the stream's eight interleaved sums."""
    lane = tl.arange(0, 8)
    row = loading + feature.to(tl.int64) * PADDED
    s = tl.zeros((feature.shape[0], 8), tl.float32)
    end = PADDED
    if TRIANGULAR:
        # Behind the diagonal there are only zeros to add.
        end = (tl.max(feature, axis=0) // 8 + 1) * 8
    for base in range(0, end, 8):
        at = base + lane[None, :]
        s += tl.load(row[:, None] + at) * tl.load(factor_row[:, None] + at)
    # ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7)): a sum of two has one order.
    s = tl.sum(tl.reshape(s, (feature.shape[0], 2, 4)), axis=1)
    s = tl.sum(tl.reshape(s, (feature.shape[0], 2, 2)), axis=1)
    return tl.sum(s, axis=1)


@triton.jit
def draw_survivors(
    key_low, key_high, start,
    tile_row, rows, mask, block_of, blocks, factor, columns, loading, table,
    law_of, laws, threshold, length,
    node_of, survivors, lists, capacity, size, law, exponentials,
    ROWS: tl.constexpr, LANES: tl.constexpr, BLOCKS: tl.constexpr, PADDED: tl.constexpr,
    TRIANGULAR: tl.constexpr, FOREST: tl.constexpr, GROUPS: tl.constexpr, LAW: tl.constexpr,
    HELD: tl.constexpr,
):  # fmt: skip
    """Append the features of the screen's mask that fire.

    They wait until there are enough for whole tiles of lanes, or no more to come.
    """
    lane = tl.arange(0, ROWS * BLOCKS)
    row = lane // BLOCKS
    room: tl.constexpr = ROWS * BLOCKS * 16 + LANES
    waiting = 0
    for base in range(0, blocks, BLOCKS):
        # One block a lane: the loop below stores scattered numbers, and more blocks a lane would be
        # dealt out anew, through shared memory, at every turn.
        place = tl.max_contiguous(base + lane % BLOCKS, 1)
        inside = (tile_row + row < rows) & (place < blocks)
        its_mask = mask + (tile_row + row).to(tl.int64) * blocks
        bits = tl.load(its_mask + place, mask=inside, other=0).to(tl.uint32) & 0xFFFF
        sixteen = tl.load(block_of + place, mask=inside, other=0) * 16
        count = ones(bits)
        at = waiting + tl.cumsum(count, axis=0) - count
        waiting += tl.sum(count, axis=0)
        while tl.max(bits, axis=0) > 0:
            lowest = bits & (~bits + 1)
            some = bits > 0
            tl.store(survivors + at, row, mask=some)
            tl.store(survivors + room + at, sixteen + ones(lowest - 1), mask=some)
            at += some.to(tl.int32)
            bits ^= lowest
        tl.debug_barrier()
        ready = waiting
        if base + BLOCKS < blocks:
            ready = waiting // LANES * LANES
        for begin in range(0, ready, LANES):
            i = begin + tl.arange(0, LANES)
            listed = i < ready
            its_row = tl.load(survivors + i, mask=listed, other=0)
            feature = tl.load(survivors + room + i, mask=listed, other=0)
            value, high, low = draw(
                key_low, key_high, start, tile_row, rows, its_row, feature, factor, columns,
                loading, table, law, exponentials, law_of, laws, threshold, length,
                PADDED, TRIANGULAR, LAW, HELD,
            )  # fmt: skip
            keep = listed & (value > 0)
            node = tl.full((LANES,), -1, tl.int32)
            if FOREST:
                node = tl.load(node_of + feature, mask=keep, other=-1)
            size = append(
                lists, capacity, size, keep, its_row, feature, value, node,
                tl.full((LANES,), -1, tl.int32), high, low, GROUPS,
            )  # fmt: skip
        waiting -= ready
        left = tl.arange(0, LANES)
        row_left = tl.load(survivors + ready + left, mask=left < waiting)
        feature_left = tl.load(survivors + room + ready + left, mask=left < waiting)
        tl.debug_barrier()
        tl.store(survivors + left, row_left, mask=left < waiting)
        tl.store(survivors + room + left, feature_left, mask=left < waiting)
    tl.debug_barrier()
    return size


@triton.jit
def draw_grouped_roots(
    key_low, key_high, start,
    tile_row, rows, grouped, num_grouped, nodes, factor, columns, loading, table,
    law_of, laws, threshold, length,
    lists, capacity, size, law, exponentials,
    ROWS: tl.constexpr, LANES: tl.constexpr, PADDED: tl.constexpr, TRIANGULAR: tl.constexpr,
    LAW: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """Append of the roots that an exclusive group holds those that fire."""
    total = num_grouped * ROWS
    for begin in range(0, total, LANES):
        i = begin + tl.arange(0, LANES)
        row = i // num_grouped
        listed = (i < total) & (tile_row + row < rows)
        node = tl.load(grouped + i % num_grouped)
        feature, child_begin, num_children, flags = four_of(nodes, node)
        value, high, low = draw(
            key_low, key_high, start, tile_row, rows, row, feature, factor, columns, loading,
            table, law, exponentials, law_of, laws, threshold, length,
            PADDED, TRIANGULAR, LAW, HELD,
        )  # fmt: skip
        size = append(
            lists, capacity, size, listed & (value > 0), row, feature, value, node, flags >> 1,
            high, low, True,
        )  # fmt: skip
    tl.debug_barrier()
    keep_max_priority(lists, capacity, 0, tl.minimum(size, capacity), LANES)
    tl.debug_barrier()
    return size


@triton.jit
def _count_children(lists, capacity, begin, end, nodes, LANES: tl.constexpr):
    """Lists for entries begin ... end - 1 how many children those before have; gives the total."""
    total = 0
    for base in range(begin, end, LANES):
        i = base + tl.arange(0, LANES)
        node = tl.load(lists + NODE * capacity + i, mask=i < end, other=-1)
        feature, child_begin, num_children, flags = four_of(nodes, tl.maximum(node, 0))
        count = tl.where(node >= 0, num_children, 0)
        tl.store(
            lists + BEFORE * capacity + i, total + tl.cumsum(count, axis=0) - count, mask=i < end
        )
        total += tl.sum(count, axis=0)
    return total


@triton.jit
def draw_children(
    key_low, key_high, start, tile_row, rows, nodes, factor, columns, loading, table,
    law_of, laws, threshold, length,
    lists, capacity, begin, end, size, law, exponentials,
    LANES: tl.constexpr, PADDED: tl.constexpr, TRIANGULAR: tl.constexpr, GROUPS: tl.constexpr,
    LAW: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """Append of the children of entries begin ... end - 1 those that fire."""
    total = _count_children(lists, capacity, begin, end, nodes, LANES)
    tl.debug_barrier()
    for base in range(0, total, LANES):
        t = base + tl.arange(0, LANES)
        listed = t < total
        # The last entry that has no more than t children before it is the parent.
        at = tl.zeros((LANES,), tl.int32) + begin
        behind = tl.zeros((LANES,), tl.int32) + end
        while tl.max(behind - at, axis=0) > 1:
            middle = (at + behind) // 2
            not_after = tl.load(lists + BEFORE * capacity + middle) <= t
            at = tl.where(not_after, middle, at)
            behind = tl.where(not_after, behind, middle)
        row = tl.load(lists + ROW * capacity + at, mask=listed, other=0)
        parent_node = tl.load(lists + NODE * capacity + at, mask=listed, other=0)
        parent, child_begin, num_children, its_flags = four_of(nodes, tl.maximum(parent_node, 0))
        place = t - tl.load(lists + BEFORE * capacity + at, mask=listed, other=0)
        node = tl.where(listed, child_begin + place, 0)
        feature, its_begin, its_children, flags = four_of(nodes, node)
        value, high, low = draw(
            key_low, key_high, start, tile_row, rows, row, feature, factor, columns, loading,
            table, law, exponentials, law_of, laws, threshold, length,
            PADDED, TRIANGULAR, LAW, HELD,
        )  # fmt: skip
        parent_value = tl.load(lists + VALUE * capacity + at, mask=listed, other=0)
        mean = tl.load(columns + parent.to(tl.int64) * 4 + 2).to(tl.float32, bitcast=True)
        scaled = ((flags & 1) != 0) & (value > 0)
        ratio = tl.math.div_rn(
            parent_value.to(tl.float32, bitcast=True), tl.where(scaled, mean, 1.0)
        )
        value = tl.where(scaled, value * ratio, value)
        size = append(
            lists, capacity, size, listed & (value > 0), row, feature, value, node, flags >> 1,
            high, low, GROUPS,
        )  # fmt: skip
    tl.debug_barrier()
    if GROUPS:
        keep_max_priority(lists, capacity, end, tl.minimum(size, capacity), LANES)
        tl.debug_barrier()
    return size
