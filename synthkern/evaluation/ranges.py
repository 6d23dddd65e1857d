"""Ranges of numbers, one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def ranges(begins: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The numbers begins[i] ... begins[i] + counts[i] - 1 of each i, and the i of each: [sum]."""
    of = np.repeat(np.arange(len(counts)), counts)
    shifts = begins - counts.cumsum() + counts
    numbers: Ints = np.arange(len(of)) + shifts[of]
    return numbers, of
