"""Positions of sequences in an order in which neighbours are unrelated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from synthkern.sparse import SparseActivations
from synthkern.stream.words import block, sample_indices

#: A purpose of the stream's blocks that no world draws.
_SHUFFLE = 2**32 - 1


class Windows:
    """Batches of one position of each of B sequences, out of windows of B whole sequences.

    Batch q of a window's T batches holds position ``(offset + q * step) mod T`` of each of its
    sequences in order: ``offset`` is the first word of the stream's block of a purpose of its own
    (2**32 - 1) and the sequence, ``step`` the first number from round(0.618 T) down that has no
    divisor with T in common. So every sample is in one batch, and none has two of a sequence.

    Args:
        draw: gives the samples, a tensor, SparseActivations or tuples of these, from an index on,
            as many as are asked for.
        batch_size: B.
        length: T.
        seed: of the stream.
    """

    def __init__(
        self, draw: Callable[[int, int], Any], batch_size: int, length: int, seed: int
    ) -> None:
        self._draw, self._size, self._length, self._seed = draw, batch_size, length, seed
        self._step = max(1, round(0.618 * length))
        while math.gcd(self._step, length) > 1:
            self._step -= 1
        self._window = -1
        self._drawn: Any = None

    def batch(self, number: int) -> Any:
        """Batch number ``number``, of the window that it is in."""
        window, place = divmod(number, self._length)
        if window != self._window:
            self._drawn = None  # two of them would take twice the memory
            count = self._size * self._length
            self._drawn = self._draw(window * count, count)
            self._window = window
        return _take(self._drawn, self._rows(window, place))

    def _rows(self, window: int, place: int) -> torch.Tensor:
        """Which samples of a window batch ``place`` holds: [B], on the CPU."""
        device = torch.device("cpu")
        number = torch.arange(self._size, device=device)
        sequence = sample_indices(window * self._size, self._size, device)
        offset = block(_SHUFFLE, number[:1], sequence, self._seed)[0].flatten()
        return number * self._length + (offset + place * self._step) % self._length


def _take(drawn: Any, rows: torch.Tensor) -> Any:
    """Some of the samples, in a given order."""
    if isinstance(drawn, tuple):
        return tuple(_take(part, rows) for part in drawn)
    rows = rows.to(drawn.device)
    if isinstance(drawn, torch.Tensor):
        return drawn.index_select(0, rows)
    counts = drawn.offsets.diff()[rows]
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    shift = torch.repeat_interleave(drawn.offsets[rows] - offsets[:-1], counts)
    at = shift + torch.arange(shift.numel(), device=shift.device)
    return SparseActivations(
        offsets, drawn.indices[at], drawn.values[at], drawn.num_features, validate=False
    )
