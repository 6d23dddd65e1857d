"""The least key that every sample keeps, of samples that fit the registers of a program.

A program per sample reads its M pre-activations once, and finds the k-th largest key bit by bit:
31 or 32 times it counts those that are at least as large as what it tries. The floor is the
reading, 4 * B * M bytes; the counting is 64 operations a pre-activation.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch
from synthkern.engine.triton.selection_cuts import Cuts
from synthkern.engine.triton.selection_keys import LEAST, load_keys

#: Pre-activations of a sample that a program can hold: 32 in each lane of 16 warps.
MOST = 16_384
_PER_WARP = 1024


@triton.jit
def _count(chosen):
    return tl.sum(chosen.to(tl.int32), 0)


@triton.jit(do_not_specialize=["k"])
def rows_kernel(
    pre,  # [B, M] float32
    scale,  # [M] float32, or None
    bounds,  # [B] int32, out
    above,  # [B] int32, out
    equal,  # [B] int32, out
    width,
    k,
    POSITIVE: tl.constexpr,
    TILE: tl.constexpr,
):
    """A sample's cut: see :class:`Cuts`. k is in [1, M]; TILE is at least M."""
    row = tl.program_id(0).to(tl.int64)
    _, key = load_keys(pre, scale, row, tl.arange(0, TILE), width)
    if POSITIVE:
        # The search ends at 0 where fewer than k are above.
        key = tl.maximum(key, 0)
        bound = 0
    else:
        bound = tl.where(_count(key >= 0) >= k, 0, LEAST)
    for step in range(31):
        larger = bound + (1 << (30 - step))
        bound = tl.where(_count(key >= larger) >= k, larger, bound)
    over = _count(key > bound)
    ties = k - over
    if POSITIVE:
        ties = tl.where(bound > 0, ties, 0)
    tl.store(bounds + row, bound)
    tl.store(above + row, over)
    tl.store(equal + row, ties)


def cut_rows(pre: torch.Tensor, scale: torch.Tensor | None, k: int, positive: bool) -> Cuts:
    """Cuts after the k largest keys of every row of ``pre`` [B, M], M at most MOST."""
    batch, width = pre.shape
    cuts = Cuts.empty(batch, pre.device)
    tile = max(_PER_WARP // 8, triton.next_power_of_2(width))
    launch(
        rows_kernel,
        (batch,),
        pre,
        scale,
        *cuts,
        width,
        k,
        POSITIVE=positive,
        TILE=tile,
        num_warps=max(1, tile // _PER_WARP),
    )
    return cuts
