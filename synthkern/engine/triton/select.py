"""Which pre-activations are active, on the GPU: the largest, those above bounds, or not zero.

The k largest are found in two steps. A *cut* of every row says what it keeps: by a search bit by
bit where a row fits the registers of a program, else digit by digit in several passes. Then the
entries that the cuts leave are written in order. For float64 the reference serves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from synthkern.engine.reference import select as reference
from synthkern.engine.triton.launch import launch, on_gpu, processors
from synthkern.sparse import SparseActivations

#: Below the key of every float, minus infinity's among them: of latents that are not there.
LEAST = tl.constexpr(-(2**31))

#: Pre-activations of a sample that a program can hold: 32 in each lane of 16 warps.
MOST = 16_384
_PER_WARP = 1024

# Latents that a program looks at at a time, reasoned and not measured: 16 numbers a lane where
# keys are counted, by half of a multiprocessor's 64 warps; 8, and at most 2**15 in all, where
# entries are written, as the sums over them take 122 registers (sm_90); 16 where nothing is sorted.
_DIGITS_TILE, _KEPT_TILE, _CHUNK = 2048, 1024, 2048
_WARPS = 4
_PROGRAMS = 8

_BITS, _PASSES = 8, 4


@triton.jit
def load_keys(pre, scale, row, latent, width, MAGNITUDE: tl.constexpr):
    """The pre-activations of rows at ``latent``, and the keys of ``pre * scale``, int32.

    Keys are ordered as the numbers are, with MAGNITUDE as their absolute values; 0 and -0 are both
    0, and NaN is infinity; past ``width`` they are LEAST. ``row`` is int64, of a shape that
    broadcasts with latent's; scale may be None.
    """
    inside = latent < width
    x = tl.load(pre + (row * width + latent), mask=inside, other=0.0)
    number = x
    if scale is not None:
        number = x * tl.load(scale + latent, mask=inside, other=0.0)
    bits = number.to(tl.int32, bitcast=True)
    if MAGNITUDE:
        bits = bits & 0x7FFFFFFF
    key = tl.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    key = tl.where(number != number, 0x7F800000, key)
    return x, tl.where(inside, key, LEAST)


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


def _tile_of(width: int, most: int) -> int:
    """Latents of a tile: all of few, and a number for each lane of four warps at least."""
    return min(most, max(128, triton.next_power_of_2(width)))


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
    MAGNITUDE: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Cuts of ROWS samples: see :class:`Cuts`. k is in [1, M]; TILE is at least M."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # The last program's rows may be more than there are: those are the last one again.
    which = tl.minimum(row, batch - 1).to(tl.int64)
    _, key = load_keys(pre, scale, which[:, None], tl.arange(0, TILE)[None, :], width, MAGNITUDE)
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


def _cut_rows(
    pre: torch.Tensor, scale: torch.Tensor | None, k: int, positive: bool, magnitude: bool
) -> Cuts:
    """Cuts after the k largest keys of every row of ``pre`` [B, M], M at most MOST.

    A program per sample reads its M pre-activations once, and finds the k-th largest key bit by
    bit: 31 or 32 times it counts those that are at least as large as what it tries. The floor is
    the reading, 4 * B * M bytes; the counting is 64 operations a pre-activation.
    """
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
        MAGNITUDE=magnitude,
        ROWS=rows,
        TILE=tile,
        num_warps=max(1, tile // _PER_WARP),
    )
    return cuts


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
    MAGNITUDE: tl.constexpr,
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
        _, key = load_keys(pre, scale, group * rows + tile // tiles, latent, width, MAGNITUDE)
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
    MAGNITUDE: tl.constexpr,
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
        _, key = load_keys(pre, scale, row, latent, width, MAGNITUDE)
        over += (key > bound).to(tl.int32)
        same += (key == bound).to(tl.int32)
    ties = tl.minimum(tl.sum(same, 0).to(tl.int64), ties)
    if POSITIVE:
        ties = tl.where(bound > 0, ties, 0)
    tl.store(bounds + row, bound)
    tl.store(above + row, tl.sum(over, 0))
    tl.store(equal + row, ties.to(tl.int32))


def _cut_groups(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    count: int,
    positive: bool,
    magnitude: bool,
    *,
    rows: int,
) -> Cuts:
    """Cuts after the ``count`` largest keys of every group of ``rows`` rows of ``pre`` [B, M].

    Each of four passes counts the next eight bits of the keys whose bits so far are the wanted
    one's; programs count tiles of their own and add up with atomics, of integers, whose order does
    not matter. What the wanted key's bits so far are, every program of the next kernel reads out of
    the counts itself, so that nothing lies between the passes. The floor: 4 * B * M bytes a pass,
    from the L2 where they fit there; tiles without a key that counts, most of them in the last two
    passes, are only read.

    A row may keep fewer of those that are equal than its cut says, as the rows of its group before
    it may have all.
    """
    (batch, width), device = pre.shape, pre.device
    groups = batch // rows
    counts = torch.zeros(groups, _PASSES, 2**_BITS, dtype=torch.int64, device=device)
    tile = _tile_of(width, _DIGITS_TILE)
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
            MAGNITUDE=magnitude,
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
        MAGNITUDE=magnitude,
        TILE=tile,
        num_warps=_WARPS,
    )
    return cuts


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
    MAGNITUDE: tl.constexpr,
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
        x, key = load_keys(pre, scale, row, latent, width, MAGNITUDE)
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


def _kept(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    cuts: Cuts,
    offsets: torch.Tensor,
    room: int,
    *,
    magnitude: bool,
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
        MAGNITUDE=magnitude,
        TILE=_tile_of(width, _KEPT_TILE),
        num_warps=_WARPS,
    )
    nnz = room if full else int(offsets[-1])
    return SparseActivations(offsets, indices[:nnz], values[:nnz], width, validate=False)


def select_topk(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    k: int,
    positive: bool,
    magnitude: bool = False,
    /,
) -> SparseActivations:
    """The k largest of every sample."""
    if pre.dtype != torch.float32 or k == 0 or len(pre) == 0:
        return reference.select_topk(pre, scale, k, positive, magnitude)
    pre, scale = _as_read(pre, scale)
    if pre.shape[1] <= MOST:
        cuts = _cut_rows(pre, scale, k, positive, magnitude)
    else:
        cuts = _cut_groups(pre, scale, k, positive, magnitude, rows=1)
    offsets = _before(cuts.above + cuts.equal)
    room, full = k * len(pre), not positive
    return _kept(pre, scale, cuts, offsets, room, magnitude=magnitude, full=full)


def select_batch_topk(
    pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
) -> SparseActivations:
    """The largest of the batch."""
    if pre.dtype != torch.float32 or count == 0:
        return reference.select_batch_topk(pre, scale, count, positive)
    pre, scale = _as_read(pre, scale)
    cuts = _cut_groups(pre, scale, count, positive, False, rows=len(pre))
    above = _before(cuts.above)
    # The batch's first of those that are equal, until there are ``count``.
    ties = torch.minimum(_before(cuts.equal), count - above[-1])
    offsets, full = above + ties, not positive
    return _kept(pre, scale, cuts, offsets, count, magnitude=False, full=full)


def _as_read(
    pre: torch.Tensor, scale: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return pre.detach().contiguous(), None if scale is None else scale.detach().contiguous()


def _before(counts: torch.Tensor) -> torch.Tensor:
    """Sums [B + 1] of the counts before each row, and of all."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


@triton.jit
def _chunk(activations, bounds, num_features, chunks, CHUNK: tl.constexpr):
    """This program's part of a row: features [CHUNK], their activations, and which are entries."""
    part = tl.program_id(0).to(tl.int64)
    feature = (part % chunks) * CHUNK + tl.arange(0, CHUNK)
    place = activations + (part // chunks) * num_features + feature
    inside = feature < num_features
    x = tl.load(place, mask=inside, other=0)
    if bounds is None:
        kept = x != 0
    else:
        kept = inside & ~(x <= tl.load(bounds + feature, mask=inside, other=0))
    return feature, x, kept


@triton.jit
def count_kernel(
    activations,  # [B, N] float32 or float64
    bounds,  # [N] of the same dtype, or None
    counts,  # [B * chunks] int32
    num_features,
    chunks,
    CHUNK: tl.constexpr,
):
    """Counts the entries of a part of a row: what is not zero, or not at most its bound."""
    _, _, kept = _chunk(activations, bounds, num_features, chunks, CHUNK)
    tl.store(counts + tl.program_id(0), tl.sum(kept.to(tl.int32), 0))


@triton.jit
def fill_kernel(
    activations,  # [B, N] float32 or float64
    bounds,  # [N] of the same dtype, or None
    before,  # [B * chunks + 1] int64
    indices,  # [nnz] int32
    values,  # [nnz] of the activations' dtype
    num_features,
    chunks,
    CHUNK: tl.constexpr,
):
    """Writes them, in order, behind those of all parts before."""
    feature, x, kept = _chunk(activations, bounds, num_features, chunks, CHUNK)
    start = tl.load(before + tl.program_id(0))
    place = tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(indices + start + place, feature.to(tl.int32), mask=kept)
    tl.store(values + start + place, x, mask=kept)


def _entries_of(activations: torch.Tensor, bounds: torch.Tensor | None) -> SparseActivations:
    """Those that are not zero, or not at most their bound.

    The floor: the B * N numbers are read twice, to count and to fill, from memory where they do
    not fit the L2; what is written is 8 bytes for each entry.
    """
    batch, num_features = activations.shape
    device, dense = activations.device, activations.detach().contiguous()
    chunks = triton.cdiv(num_features, _CHUNK)
    # Not empty: none are counted where launches are only noted down.
    counts = torch.zeros(batch * chunks, dtype=torch.int32, device=device)
    launch(
        count_kernel,
        (batch * chunks,),
        dense,
        bounds,
        counts,
        num_features,
        chunks,
        CHUNK=_CHUNK,
        num_warps=_WARPS,
    )
    before = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    nnz = int(before[-1])
    indices = torch.empty(nnz, dtype=torch.int32, device=device)
    values = torch.empty(nnz, dtype=activations.dtype, device=device)
    launch(
        fill_kernel,
        (batch * chunks,),
        dense,
        bounds,
        before,
        indices,
        values,
        num_features,
        chunks,
        CHUNK=_CHUNK,
        num_warps=_WARPS,
    )
    # Without features there are no chunks, and every sample ends where it begins.
    offsets = before[::chunks].contiguous() if chunks else before.repeat(batch + 1)
    return SparseActivations(offsets, indices, values, num_features, validate=False)


def compress(activations: torch.Tensor, /) -> SparseActivations:
    """The entries of activations [B, N] that are not zero: ``SparseActivations.from_dense``.

    -0 is a zero, NaN an entry. Waits for the device once, for the number of entries, which the
    result's size needs.
    """
    return _entries_of(activations, None)


def select_above(pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations:
    """All pre-activations [B, M] above their latent's bound [M], and NaN; waits as well."""
    return _entries_of(pre, bounds.detach().contiguous())
