"""Memory that the programs of the walk keep their lists in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from synthkern.engine.triton.tiles import Tiles
from synthkern.engine.triton.walk import LISTS

#: Bytes for the lists of all programs; those that take what did not fit follow in the same memory.
_LIST_BYTES = 2**30
_AGAIN_PROGRAMS = 64


@dataclass(frozen=True)
class Scratch:
    """Shape of the memory of ``programs`` programs; see walk_kernel for what is in it.

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
