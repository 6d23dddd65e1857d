"""The features that passed the screen, drawn exactly, and the tree below those that fire.

A program takes a tile of samples at a time through lists of (sample, feature) in device memory
that is its own: features that may fire, active ones, the children of active ones, level by level,
and at the end the active ones in order. The lists are as long as what fires, not as the world.
"""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.engine.triton.stream import (
    FEATURE,
    block,
    coarse_byte,
    four_of,
    halves,
    normal,
    ones,
)

# What is kept of an active feature, each [capacity] int32: its row in the tile, its value's bits,
# its node or -1, its exclusive group or -1, its priority's halves; and, of the latest level, how
# many children the entries before it have.
ROW = tl.constexpr(0)
FEATURE_OF = tl.constexpr(1)
VALUE = tl.constexpr(2)
NODE = tl.constexpr(3)
GROUP = tl.constexpr(4)
HIGH = tl.constexpr(5)
LOW = tl.constexpr(6)
BEFORE = tl.constexpr(7)
LISTS = tl.constexpr(8)


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
    PADDED: tl.constexpr,
    TRIANGULAR: tl.constexpr,
):
    """Values [L] of features of the tile's rows, zero where they do not fire, and their priorities.

    ``start`` is the index of row 0, uint64. Rows behind the last are drawn as that one.
    """
    sample = tl.minimum(tile_row + row, rows - 1)
    low, high = halves(start + sample.to(tl.uint64))
    byte = coarse_byte(feature, low, high, key_low, key_high)
    w0, w1, w2, w3 = block(FEATURE, feature.to(tl.uint32), low, high, key_low, key_high)
    first, second, mean, std = four_of(columns, feature)
    if PADDED == 0:
        below = (first.to(tl.int64) << 32) | (second.to(tl.int64) & 0xFFFFFFFF)
        fires = ((byte.to(tl.int64) << 32) | w0.to(tl.int64)) < below
    else:
        threshold = first.to(tl.float32, bitcast=True)
        scale = second.to(tl.float32, bitcast=True)
        factor_row = factor + sample.to(tl.int64) * PADDED
        s = _product(factor_row, feature, loading, PADDED, TRIANGULAR)
        fires = s + scale * normal((byte << 24) | (w0 >> 8), table) > threshold
    mean = mean.to(tl.float32, bitcast=True)
    value = mean + std.to(tl.float32, bitcast=True) * normal(w1, table)
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
def _append(
    lists, capacity, size, keep, row, feature, value, node, group, high, low, GROUPS: tl.constexpr
):
    """Append entries where ``keep``, in order; gives the new size, which may pass the capacity."""
    count = keep.to(tl.int32)
    at = size + tl.cumsum(count, axis=0) - count
    fits = keep & (at < capacity)
    tl.store(lists + ROW * capacity + at, row, mask=fits)
    tl.store(lists + FEATURE_OF * capacity + at, feature, mask=fits)
    tl.store(lists + VALUE * capacity + at, value.to(tl.int32, bitcast=True), mask=fits)
    tl.store(lists + NODE * capacity + at, node, mask=fits)
    if GROUPS:
        tl.store(lists + GROUP * capacity + at, group, mask=fits)
        tl.store(lists + HIGH * capacity + at, high.to(tl.int32, bitcast=True), mask=fits)
        tl.store(lists + LOW * capacity + at, low.to(tl.int32, bitcast=True), mask=fits)
    return size + tl.sum(count, axis=0)


@triton.jit
def _thin_out(lists, capacity, begin, end, LANES: tl.constexpr):
    """Of each exclusive group among entries begin ... end - 1 the greatest priority stays.

    Members are neighbours, in the order of the nodes. One looks to either side until it meets a
    greater priority or the group's end; a loser gets value 0 and no node.
    """
    for base in range(begin, end, LANES):
        i = base + tl.arange(0, LANES)
        inside = i < end
        row = tl.load(lists + ROW * capacity + i, mask=inside, other=-1)
        group = tl.load(lists + GROUP * capacity + i, mask=inside, other=-1)
        mine = _priority(lists, capacity, i, inside)
        beaten = group < -1
        for side in tl.static_range(2):
            looking = (group >= 0) & ~beaten
            j = i
            while tl.max(looking.to(tl.int32), axis=0) > 0:
                j = j + 1 - 2 * side
                looking &= (j >= begin) & (j < end)
                looking &= tl.load(lists + GROUP * capacity + j, mask=looking, other=-1) == group
                looking &= tl.load(lists + ROW * capacity + j, mask=looking, other=-1) == row
                theirs = _priority(lists, capacity, j, looking)
                # A tie goes to the lowest node, which comes first.
                if side == 0:
                    beaten |= looking & (theirs > mine)
                else:
                    beaten |= looking & (theirs >= mine)
                looking &= ~beaten
        tl.store(lists + VALUE * capacity + i, tl.zeros_like(i), mask=beaten)
        tl.store(lists + NODE * capacity + i, tl.full(i.shape, -1, tl.int32), mask=beaten)


@triton.jit
def _priority(lists, capacity, i, mask):
    high = tl.load(lists + HIGH * capacity + i, mask=mask, other=0).to(tl.uint32, bitcast=True)
    low = tl.load(lists + LOW * capacity + i, mask=mask, other=0).to(tl.uint32, bitcast=True)
    return (high.to(tl.uint64) << 32) | low.to(tl.uint64)


@triton.jit
def draw_survivors(
    key_low, key_high, start,
    tile_row, rows, mask, block_of, blocks, factor, columns, loading, table,
    node_of, survivors, lists, capacity, size,
    ROWS: tl.constexpr, LANES: tl.constexpr, BLOCKS: tl.constexpr, PADDED: tl.constexpr,
    TRIANGULAR: tl.constexpr, FOREST: tl.constexpr, GROUPS: tl.constexpr,
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
                loading, table, PADDED, TRIANGULAR,
            )  # fmt: skip
            keep = listed & (value > 0)
            node = tl.full((LANES,), -1, tl.int32)
            if FOREST:
                node = tl.load(node_of + feature, mask=keep, other=-1)
            size = _append(
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
def draw_grouped_tops(
    key_low, key_high, start,
    tile_row, rows, grouped, num_grouped, nodes, factor, columns, loading, table,
    lists, capacity, size,
    ROWS: tl.constexpr, LANES: tl.constexpr, PADDED: tl.constexpr, TRIANGULAR: tl.constexpr,
):  # fmt: skip
    """Append of the nodes that nothing gates but an exclusive group holds those that fire."""
    total = num_grouped * ROWS
    for begin in range(0, total, LANES):
        i = begin + tl.arange(0, LANES)
        row = i // num_grouped
        listed = (i < total) & (tile_row + row < rows)
        node = tl.load(grouped + i % num_grouped)
        feature, child_begin, num_children, flags = four_of(nodes, node)
        value, high, low = draw(
            key_low, key_high, start, tile_row, rows, row, feature, factor, columns, loading,
            table, PADDED, TRIANGULAR,
        )  # fmt: skip
        size = _append(
            lists, capacity, size, listed & (value > 0), row, feature, value, node, flags >> 1,
            high, low, True,
        )  # fmt: skip
    tl.debug_barrier()
    _thin_out(lists, capacity, 0, tl.minimum(size, capacity), LANES)
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
    lists, capacity, begin, end, size,
    LANES: tl.constexpr, PADDED: tl.constexpr, TRIANGULAR: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """Append of the children of entries begin ... end - 1 those that fire."""
    total = _count_children(lists, capacity, begin, end, nodes, LANES)
    tl.debug_barrier()
    for base in range(0, total, LANES):
        t = base + tl.arange(0, LANES)
        listed = t < total
        # The last entry that has no more than t children before it is the gate.
        at = tl.zeros((LANES,), tl.int32) + begin
        behind = tl.zeros((LANES,), tl.int32) + end
        while tl.max(behind - at, axis=0) > 1:
            middle = (at + behind) // 2
            not_after = tl.load(lists + BEFORE * capacity + middle) <= t
            at = tl.where(not_after, middle, at)
            behind = tl.where(not_after, behind, middle)
        row = tl.load(lists + ROW * capacity + at, mask=listed, other=0)
        gate_node = tl.load(lists + NODE * capacity + at, mask=listed, other=0)
        gate, child_begin, num_children, its_flags = four_of(nodes, tl.maximum(gate_node, 0))
        place = t - tl.load(lists + BEFORE * capacity + at, mask=listed, other=0)
        node = tl.where(listed, child_begin + place, 0)
        feature, its_begin, its_children, flags = four_of(nodes, node)
        value, high, low = draw(
            key_low, key_high, start, tile_row, rows, row, feature, factor, columns, loading,
            table, PADDED, TRIANGULAR,
        )  # fmt: skip
        gate_value = tl.load(lists + VALUE * capacity + at, mask=listed, other=0)
        mean = tl.load(columns + gate.to(tl.int64) * 4 + 2).to(tl.float32, bitcast=True)
        scaled = ((flags & 1) != 0) & (value > 0)
        ratio = tl.math.div_rn(gate_value.to(tl.float32, bitcast=True), tl.where(scaled, mean, 1.0))
        value = tl.where(scaled, value * ratio, value)
        size = _append(
            lists, capacity, size, listed & (value > 0), row, feature, value, node, flags >> 1,
            high, low, GROUPS,
        )  # fmt: skip
    tl.debug_barrier()
    if GROUPS:
        _thin_out(lists, capacity, end, tl.minimum(size, capacity), LANES)
        tl.debug_barrier()
    return size


@triton.jit
def _bit_of(lists, capacity, i, mask, words_a_row):
    """The word and the bit of entries' row and feature, that feature, and the value's bits."""
    row = tl.load(lists + ROW * capacity + i, mask=mask, other=0)
    feature = tl.load(lists + FEATURE_OF * capacity + i, mask=mask, other=0)
    value = tl.load(lists + VALUE * capacity + i, mask=mask, other=0)
    bit = tl.full(i.shape, 1, tl.uint32) << (feature % 32).to(tl.uint32)
    return row * words_a_row + feature // 32, bit, feature, value


@triton.jit
def sort_entries(
    lists, capacity, size, words, words_a_row, in_order, in_order_value,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Sorts the entries whose value is not zero by row and feature: a bit each, then a count of
    the bits before it. Gives how many there are; ``words + span`` then holds what precedes."""
    span = ROWS * words_a_row
    wide: tl.constexpr = 8 * LANES
    for base in range(0, span, wide):
        i = base + tl.arange(0, wide)
        tl.store(words + i, tl.zeros_like(i), mask=i < span)
    tl.debug_barrier()
    for base in range(0, size, LANES):
        i = base + tl.arange(0, LANES)
        word, bit, feature, value = _bit_of(lists, capacity, i, i < size, words_a_row)
        tl.atomic_or(
            words + word,
            bit.to(tl.int32, bitcast=True),
            mask=value != 0,
            sem="relaxed",
            scope="cta",
        )
    tl.debug_barrier()
    total = 0
    for base in range(0, span, wide):
        i = base + tl.arange(0, wide)
        count = ones(tl.load(words + i, mask=i < span, other=0).to(tl.uint32, bitcast=True))
        tl.store(words + span + i, total + tl.cumsum(count, axis=0) - count, mask=i < span)
        total += tl.sum(count, axis=0)
    tl.debug_barrier()
    for base in range(0, size, LANES):
        i = base + tl.arange(0, LANES)
        word, bit, feature, value = _bit_of(lists, capacity, i, i < size, words_a_row)
        bits = tl.load(words + word, mask=value != 0, other=0).to(tl.uint32, bitcast=True)
        at = tl.load(words + span + word, mask=value != 0, other=0) + ones(bits & (bit - 1))
        tl.store(in_order + at, feature, mask=value != 0)
        tl.store(in_order_value + at, value.to(tl.float32, bitcast=True), mask=value != 0)
    tl.debug_barrier()
    return total
