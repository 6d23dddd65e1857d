"""The least key that is kept of many rows together, or of long ones: digit by digit.

Each of four passes counts the next eight bits of the keys whose bits so far are the wanted one's;
programs count tiles of their own and add up with atomics, of integers, whose order does not
matter. What the wanted key's bits so far are, every program of the next kernel reads out of the
counts itself, so that nothing lies between the passes. The floor: 4 * B * M bytes a pass, from
the L2 where they fit there; tiles without a key that counts, most of them in the last two passes,
are only read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch, processors
from synthkern.engine.triton.selection_cuts import Cuts, tile_of
from synthkern.engine.triton.selection_keys import LEAST, load_keys

_BITS, _PASSES = 8, 4
#: Latents that a program looks at at a time, 16 numbers a lane, and programs on a multiprocessor,
#: half of its 64 warps. Reasoned, not measured.
_TILE = 2048
_WARPS = 4
_PROGRAMS = 8


@triton.jit
def _first_digits(counts, wanted, passes):
    """The wanted key's first digits, and which of the keys that begin so it is, the largest first.

    Keys are taken without a sign: LEAST is 0. ``counts`` [4, 256] are of each digit after the
    digits before; ``wanted`` is the key's place, from 1 on, among all.
    """
    digits = 0
    number = tl.arange(0, 256)
    for nth in range(passes):
        found = tl.load(counts + nth * 256 + number)
        from_here = tl.cumsum(found, 0, reverse=True)
        digit = tl.sum((from_here >= wanted).to(tl.int32), 0) - 1
        wanted -= tl.sum(tl.where(number > digit, found, 0), 0)
        digits |= digit << (24 - 8 * nth)
    return digits, wanted


@triton.jit(do_not_specialize=["rows", "wanted", "passes"])
def digits_kernel(
    pre,  # [B, M] float32
    scale,  # [M] float32, or None
    counts,  # [B / rows, 4, 256] int64, in and out
    width,
    rows,
    wanted,
    passes,
    POSITIVE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Counts a digit, number ``passes``, in some of the tiles of ``rows`` rows together."""
    group = tl.program_id(0).to(tl.int64)
    counts += group * 4 * 256
    digits = _first_digits(counts, tl.cast(wanted, tl.int64), passes)[0]
    shift = 24 - 8 * passes
    known = -256 << shift  # The bits before: none at first.
    found = tl.zeros((256,), tl.int32)
    tiles = tl.cdiv(width, TILE)
    for tile in range(tl.program_id(1), rows * tiles, tl.num_programs(1)):
        latent = (tile % tiles) * TILE + tl.arange(0, TILE)
        _, key = load_keys(pre, scale, group * rows + tile // tiles, latent, width)
        if POSITIVE:
            # The wanted key is 0 where too few are above.
            key = tl.maximum(key, 0)
        bits = key ^ LEAST
        counted = ((bits ^ digits) & known) == 0
        if tl.sum(counted.to(tl.int32), 0) > 0:
            found += tl.histogram((bits >> shift) & 255, 256, mask=counted)
    place = counts + passes * 256 + tl.arange(0, 256)
    tl.atomic_add(place, found.to(tl.int64), mask=found > 0, sem="relaxed")


@triton.jit(do_not_specialize=["rows", "wanted"])
def cuts_kernel(
    pre,  # [B, M] float32
    scale,  # [M] float32, or None
    counts,  # [B / rows, 4, 256] int64
    bounds,  # [B] int32, out
    above,  # [B] int32, out
    equal,  # [B] int32, out
    width,
    rows,
    wanted,
    POSITIVE: tl.constexpr,
    TILE: tl.constexpr,
):
    """A row's cut, of which ``equal`` is for the row as if it were the first of its group."""
    row = tl.program_id(0).to(tl.int64)
    group = row // rows
    digits, ties = _first_digits(counts + group * 4 * 256, tl.cast(wanted, tl.int64), 4)
    bound = digits ^ LEAST
    over = tl.zeros((TILE,), tl.int32)
    same = tl.zeros((TILE,), tl.int32)
    for base in range(0, width, TILE):
        latent = base + tl.arange(0, TILE)
        _, key = load_keys(pre, scale, row, latent, width)
        over += (key > bound).to(tl.int32)
        same += (key == bound).to(tl.int32)
    ties = tl.minimum(tl.sum(same, 0).to(tl.int64), ties)
    if POSITIVE:
        ties = tl.where(bound > 0, ties, 0)
    tl.store(bounds + row, bound)
    tl.store(above + row, tl.sum(over, 0))
    tl.store(equal + row, ties.to(tl.int32))


def cut_groups(
    pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, *, rows: int
) -> Cuts:
    """Cuts after the ``count`` largest keys of every group of ``rows`` rows of ``pre`` [B, M].

    A row may keep fewer of those that are equal than its cut says, as the rows of its group before
    it may have all.
    """
    (batch, width), device = pre.shape, pre.device
    groups = batch // rows
    counts = torch.zeros(groups, _PASSES, 2**_BITS, dtype=torch.int64, device=device)
    tile = tile_of(width, _TILE)
    tiles = rows * triton.cdiv(width, tile)
    programs = min(tiles, triton.cdiv(_PROGRAMS * processors(device), groups))
    for passes in range(_PASSES):
        launch(
            digits_kernel,
            (groups, programs),
            pre,
            scale,
            counts,
            width,
            rows,
            count,
            passes,
            POSITIVE=positive,
            TILE=tile,
            num_warps=_WARPS,
        )
    cuts = Cuts.empty(batch, device)
    launch(
        cuts_kernel,
        (batch,),
        pre,
        scale,
        counts,
        *cuts,
        width,
        rows,
        count,
        POSITIVE=positive,
        TILE=tile,
        num_warps=_WARPS,
    )
    return cuts
