"""The least key that every sample keeps, of samples that fit the registers of a program.

A program per sample reads its M pre-activations once, and finds the k-th largest key bit by bit:
31 or 32 times it counts those that are at least as large as what it tries. The floor is the
reading, 4 * B * M bytes; the counting is 64 operations a pre-activation.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch, on_gpu
from synthkern.engine.triton.selection_cuts import Cuts
from synthkern.engine.triton.selection_keys import LEAST, load_keys

#: Pre-activations of a sample that a program can hold: 32 in each lane of 16 warps.
MOST = 16_384
_PER_WARP = 1024


@triton.jit(do_not_specialize=["batch", "k"])
def rows_kernel(
    pre,  # [B, M] float32
    scale,  # [M] float32, or None
    bounds,  # [B] int32, out
    above,  # [B] int32, out
    equal,  # [B] int32, out
    batch,
    width,
    k,
    POSITIVE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Cuts of ROWS samples: see :class:`Cuts`. k is in [1, M]; TILE is at least M."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # The last program's rows may be more than there are: those are the last one again.
    which = tl.minimum(row, batch - 1).to(tl.int64)
    _, key = load_keys(pre, scale, which[:, None], tl.arange(0, TILE)[None, :], width)
    if POSITIVE:
        # The search ends at 0 where fewer than k are above.
        key = tl.maximum(key, 0)
        bound = tl.zeros((ROWS,), tl.int32)
    else:
        bound = tl.where(tl.sum((key >= 0).to(tl.int32), 1) >= k, 0, LEAST)
    for step in range(31):
        larger = bound + (1 << (30 - step))
        enough = tl.sum((key >= larger[:, None]).to(tl.int32), 1) >= k
        bound = tl.where(enough, larger, bound)
    over = tl.sum((key > bound[:, None]).to(tl.int32), 1)
    ties = k - over
    if POSITIVE:
        ties = tl.where(bound > 0, ties, 0)
    tl.store(bounds + row, bound, mask=row < batch)
    tl.store(above + row, over, mask=row < batch)
    tl.store(equal + row, ties, mask=row < batch)


def cut_rows(pre: torch.Tensor, scale: torch.Tensor | None, k: int, positive: bool) -> Cuts:
    """Cuts after the k largest keys of every row of ``pre`` [B, M], M at most MOST."""
    batch, width = pre.shape
    cuts = Cuts.empty(batch, pre.device)
    tile = max(_PER_WARP // 8, triton.next_power_of_2(width))
    rows = 1 if on_gpu(pre.device) else triton.next_power_of_2(batch)
    launch(
        rows_kernel,
        (triton.cdiv(batch, rows),),
        pre,
        scale,
        *cuts,
        batch,
        width,
        k,
        POSITIVE=positive,
        ROWS=rows,
        TILE=tile,
        num_warps=max(1, tile // _PER_WARP),
    )
    return cuts
