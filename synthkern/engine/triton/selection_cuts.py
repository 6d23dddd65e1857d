"""Where a selection cuts each row of pre-activations off, and the entries that are left of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch
from synthkern.engine.triton.selection_keys import load_keys
from synthkern.sparse import SparseActivations

#: Latents that a program looks at at a time, at most 2**15: 8 numbers a lane, as the sums over
#: them take 122 registers (sm_90). Reasoned, not measured.
_TILE = 1024
_WARPS = 4


class Cuts(NamedTuple):
    """Of B rows: what is above a bound is kept, and the first of what is equal to it.

    Attributes:
        bounds: [B] int32, keys.
        above: [B] int32, how many of the row's keys are above.
        equal: [B] int32, how many of those that are equal may be kept at most.
    """

    bounds: torch.Tensor
    above: torch.Tensor
    equal: torch.Tensor

    @classmethod
    def empty(cls, batch: int, device: torch.device) -> Cuts:
        """Room for them."""
        return cls(*torch.empty(3, batch, dtype=torch.int32, device=device))


def tile_of(width: int, most: int) -> int:
    """Latents of a tile: all of few, and a number for each lane of four warps at least."""
    return min(most, max(128, triton.next_power_of_2(width)))


@triton.jit
def kept_kernel(
    pre,  # [B, M] float32
    scale,  # [M] float32, or None
    bounds,  # [B] int32
    above,  # [B] int32
    offsets,  # [B + 1] int64
    indices,  # [room] int32, out
    values,  # [room] float32, out
    width,
    TILE: tl.constexpr,
):
    """Writes a row's entries, ascending, to where they belong."""
    row = tl.program_id(0).to(tl.int64)
    bound = tl.load(bounds + row)
    start = tl.load(offsets + row)
    # What is left of the row's entries beside those above.
    ties = (tl.load(offsets + row + 1) - start).to(tl.int32) - tl.load(above + row)
    for base in range(0, width, TILE):
        latent = base + tl.arange(0, TILE)
        x, key = load_keys(pre, scale, row, latent, width)
        # Both counts in one sum: the halves of its 32 bits.
        both = (key > bound).to(tl.int32) + (key == bound).to(tl.int32) * 65536
        sums = tl.cumsum(both, 0)
        over, same = sums & 0xFFFF, sums >> 16
        kept = (key > bound) | ((key == bound) & (same <= ties))
        place = start + over + tl.minimum(same, ties) - 1
        tl.store(indices + place, latent, mask=kept)
        tl.store(values + place, x, mask=kept)
        total = tl.sum(both, 0)
        taken = tl.minimum(total >> 16, ties)
        start += (total & 0xFFFF) + taken
        ties -= taken


def kept(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    cuts: Cuts,
    offsets: torch.Tensor,
    room: int,
    *,
    full: bool,
) -> SparseActivations:
    """The entries of ``pre`` [B, M] that the cuts leave, ``offsets[-1] <= room`` of them.

    Row b has ``offsets[b + 1] - offsets[b]``: all above the bound, the rest are equal to it. Where
    they are not known to be ``full``, ``room`` of them, this waits for the device once, after its
    last kernel has been launched, for their number.
    """
    batch, width = pre.shape
    indices = torch.empty(room, dtype=torch.int32, device=pre.device)
    values = torch.empty(room, dtype=torch.float32, device=pre.device)
    launch(
        kept_kernel,
        (batch,),
        pre,
        scale,
        cuts.bounds,
        cuts.above,
        offsets,
        indices,
        values,
        width,
        TILE=tile_of(width, _TILE),
        num_warps=_WARPS,
    )
    nnz = room if full else int(offsets[-1])
    return SparseActivations(offsets, indices[:nnz], values[:nnz], width, validate=False)
