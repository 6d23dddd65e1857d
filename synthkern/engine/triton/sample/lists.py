"""The lists that the programs of a launch keep of what is active, in memory of their own.

A program takes a tile of samples at a time through lists of (sample, feature): features that may
fire, active ones, the children of active ones, level by level, and at the end the active ones in
order. The lists are as long as what fires, not as the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.sample.tiles import Tiles
from synthkern.engine.triton.stream import ones

#: Bytes for the lists of all programs; those that take what did not fit follow in the same memory.
_LIST_BYTES = 2**30
_AGAIN_PROGRAMS = 64

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
def append(
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
def keep_max_priority(lists, capacity, begin, end, LANES: tl.constexpr):
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


@triton.jit
def span_of(words, words_a_row, row, kept, ROWS: tl.constexpr):
    """Where the entries of rows of the tile begin, in order, and how many they are."""
    begin = tl.load(words + (ROWS + row) * words_a_row)
    end = tl.load(words + (ROWS + row + 1) * words_a_row, mask=row + 1 < ROWS, other=0)
    return begin, tl.where(row + 1 < ROWS, end, kept) - begin


@dataclass(frozen=True)
class Scratch:
    """Shape of the memory of ``programs`` programs; see sample_kernel for what is in it.

    Attributes:
        programs: how many there are.
        capacity: entries of a list.
        survivors, words: numbers of the other two areas of a program, each doubled.
    """

    programs: int
    capacity: int
    survivors: int
    words: int

    @property
    def parts(self) -> tuple[int, ...]:
        """Numbers in each area: survivors, lists, words, features in order, their values."""
        return tuple(
            self.programs * size
            for size in (
                2 * self.survivors,
                LISTS.value * self.capacity,
                2 * self.words,
                self.capacity,
                self.capacity,
            )
        )

    @property
    def size(self) -> int:
        """Numbers of 32 bits in all."""
        return sum(self.parts)

    def cut(self, memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The areas, of a tensor of at least ``size`` int32; the last one is float32."""
        *integers, values = memory[: self.size].split(self.parts)
        return (*integers, values.view(torch.float32))


def first_scratch(
    tiles: Tiles, rows: int, num_features: int, expected: float, most: int
) -> Scratch:
    """For programs that take all tiles, at most ``most`` of them.

    A list has room for twice the features that are expected of every sample, and 64 more.
    """
    entries = tiles.rows * (2 * int(expected) + 64)
    capacity = min(_room(tiles, num_features), 1 << entries.bit_length())
    return _scratch(tiles, num_features, capacity, min(most, -(-rows // tiles.rows)), _LIST_BYTES)


def second_scratch(tiles: Tiles, rows: int, num_features: int) -> Scratch:
    """For the few that take the tiles which did not fit: room for every feature."""
    most = min(_AGAIN_PROGRAMS, -(-rows // tiles.rows))
    return _scratch(tiles, num_features, _room(tiles, num_features), most, _LIST_BYTES)


def _room(tiles: Tiles, num_features: int) -> int:
    """Entries of all features of a tile, in whole lines of memory."""
    return -(-tiles.rows * num_features // 32) * 32


def _scratch(tiles: Tiles, num_features: int, capacity: int, most: int, budget: int) -> Scratch:
    survivors = 16 * tiles.rows * tiles.blocks + tiles.lanes
    words = tiles.rows * words_a_row(num_features)
    of_one = Scratch(1, capacity, survivors, words).size
    return Scratch(max(1, min(most, budget // (4 * of_one))), capacity, survivors, words)


def words_a_row(num_features: int) -> int:
    """Words of 32 bits, one for each feature, in whole lines of memory."""
    return -(-num_features // 1024) * 32


def within_reach(tiles: Tiles, num_features: int) -> Tiles:
    """With so few samples a tile that 32 bits reach all of the lists that hold every feature."""
    rows = tiles.rows
    while rows > 1 and LISTS.value * (rows * num_features + 32) > 2**31:
        rows //= 2
    return tiles if rows == tiles.rows else replace(tiles, rows=rows, gathered=1)
