"""How many programs apply a forest at a time, and their slots for contests of exclusive groups."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from synthkern.engine.triton.launch import INTERPRETED, processors

#: Samples that a program works on at once: one, so that no sample waits for another's levels. In
#: the interpreter an operation costs the same whatever its size, and a program takes many.
SAMPLES = 64 if INTERPRETED else 1

#: Bytes that the slots may take: 16 a group for each sample that is worked on. At 1,048,576
#: features they are enough for 1,600 programs where each hundred are a group, for 64 where each
#: four are, and for 32 where each two are.
_MEMORY = 2**28


class Slots(NamedTuple):
    """The programs of a launch and what they need for contests.

    Attributes:
        programs: how many there are.
        best: [programs * SAMPLES, groups] uint64, zero; None without groups.
        first: the same in int64.
    """

    programs: int
    best: torch.Tensor | None
    first: torch.Tensor | None


def slots_for(num_groups: int, batch_size: int, most: int, device: torch.device) -> Slots:
    """As many programs as the samples ask for, but not more than ``most`` for a multiprocessor
    nor than there is memory for, save for the first.
    """
    programs = min(triton.cdiv(batch_size, SAMPLES), most * processors(device))
    if not num_groups:
        return Slots(programs, None, None)
    programs = min(programs, max(1, _MEMORY // (16 * SAMPLES * num_groups)))
    slots = torch.zeros(2, programs * SAMPLES, num_groups, dtype=torch.int64, device=device)
    return Slots(programs, slots[0].view(torch.uint64), slots[1])
