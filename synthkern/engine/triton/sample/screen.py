"""A conservative first look at the features that nothing gates: which of them may fire.

What a feature's factors add is bounded by a product of float16 numbers on the tensor cores, what
its noise adds by the first byte of its word; only the features that pass are drawn exactly. Both
bounds hold for every sample, so that the screen decides how much work there is and never what
comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch
from synthkern.engine.triton.sample.held import Held, held_index, no_tables
from synthkern.engine.triton.stream import COARSE, block, index_of, seed_of
from synthkern.plan import Plan

#: Features of a coarse block: one bit each in the mask.
BLOCK = 16

#: Factors that are multiplied at once. With 64 the tiles of a long product do not fit the
#: registers: 232 bytes are spilled on sm_90, 8 with 32.
STEP = 32


@triton.jit
def highest_normal(byte):
    """Above every normal whose word begins with ``byte``, an int32.

    A cubic in the logarithm of what is above the byte, read off the bits of a float, fitted by a
    linear program: at most 0.06 above the highest normal for bytes from 127 to 254; 11,778 at
    255, where nothing is above.
    """
    above = (255 - byte).to(tl.float32)
    log = tl.fma(above.to(tl.int32, bitcast=True).to(tl.float32), 1.1920929e-07, -127.0)
    x = tl.fma(log, -0.00549732, 0.0294336)
    x = tl.fma(log, x, -0.31945457)
    return tl.fma(log, x, 2.7192)


@triton.jit(do_not_specialize=["first", "rows", "features", "length"])
def screen_kernel(
    position,  # [2] int64
    block_of,  # [blocks] int32, which sixteen features
    looked,  # [blocks] int32, which of them are looked at: 16 bits
    last_byte,  # [16, blocks] int32, independent: the largest byte that may fire
    threshold,  # [16, blocks] float32, copula
    noise,  # [16, blocks] float32, copula
    loading,  # [16, blocks, K] float16, copula
    factor,  # [rows, padded] float32, copula
    norm,  # [rows] float32, copula: of the factors
    mask,  # [rows, blocks] int16, out: the features that passed
    law_of,  # [N] int32, of sequences
    laws,  # [M, 3] int32
    law_threshold,  # [K] int32
    first,
    rows,
    blocks,
    padded,
    per_norm,
    at_least,
    features,
    length,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    K: tl.constexpr,
    STEP: tl.constexpr,
    HELD: tl.constexpr,
):
    """A tile of rows by a tile of blocks, one feature of every block at a time."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    place = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    live, inside = row < rows, place < blocks
    key_low, key_high = seed_of(position)
    low, high = index_of(position, first + row)
    element = tl.load(block_of + place, mask=inside, other=0).to(tl.uint32)
    if HELD == 0:
        words = block(COARSE, element[None, :], low[:, None], high[:, None], key_low, key_high)
    passed = tl.zeros((ROWS, BLOCKS), tl.int32)
    step = tl.arange(0, STEP)
    factors = factor + row.to(tl.int64)[:, None] * padded
    if K > 0:
        margin = tl.load(norm + row, mask=live, other=0.0) * per_norm + at_least
        x = tl.load(factors + step[None, :], mask=live[:, None] & (step < padded)[None, :], other=0)
        x = x.to(tl.float16)
    for quarter in tl.static_range(4):
        for k in range(4 * quarter, 4 * quarter + 4):
            if HELD > 0:
                # Every feature has a sample of its own: sixteen times the blocks.
                feature = (element * 16 + k).to(tl.int32)
                law = tl.load(law_of + feature, mask=feature < features, other=0)
                its_low, its_high = held_index(
                    feature[None, :], 0, law[None, :], low[:, None], high[:, None],
                    key_low, key_high, laws, law_threshold, length, HELD,
                )  # fmt: skip
                words = block(COARSE, element[None, :], its_low, its_high, key_low, key_high)
            byte = ((words[quarter] >> (8 * (k % 4))) & 0xFF).to(tl.int32)
            column = k * blocks + place
            if K == 0:
                last = tl.load(last_byte + column, mask=inside, other=0)
                may_fire = byte <= last[None, :]
            else:
                loadings = loading + column.to(tl.int64)[None, :] * K
                w = tl.load(loadings + step[:, None], mask=inside[None, :], other=0)
                s = tl.dot(x, w, tl.zeros((ROWS, BLOCKS), tl.float32))
                for base in range(STEP, K, STEP):
                    at = base + step
                    more = live[:, None] & (at < padded)[None, :]
                    y = tl.load(factors + at[None, :], mask=more, other=0).to(tl.float16)
                    w = tl.load(loadings + at[:, None], mask=inside[None, :], other=0)
                    s = tl.dot(y, w, s)
                scale = tl.load(noise + column, mask=inside, other=0.0)
                bound = tl.load(threshold + column, mask=inside, other=float("inf"))
                most = s + margin[:, None] + scale[None, :] * highest_normal(byte)
                may_fire = most > bound[None, :]
            passed |= may_fire.to(tl.int32) << k
    passed &= tl.load(looked + place, mask=inside, other=0)[None, :]
    tl.store(
        mask + row.to(tl.int64)[:, None] * blocks + place[None, :],
        passed.to(tl.int16),
        mask=live[:, None] & inside[None, :],
    )


@dataclass(frozen=True)
class Screen:
    """The tables of a plan's screen, on its device; see :func:`screen_kernel` for the shapes.

    ``per_norm`` and ``at_least`` bound what the screen's sum may be off, for a sample whose
    factors have norm 1 and in any case.
    """

    block_of: torch.Tensor
    looked: torch.Tensor
    last_byte: torch.Tensor
    threshold: torch.Tensor
    noise: torch.Tensor
    loading: torch.Tensor
    per_norm: float
    at_least: float

    @property
    def num_blocks(self) -> int:
        """Number of coarse blocks that are looked at."""
        return self.block_of.numel()


def build_screen(plan: Plan, is_screened: torch.Tensor) -> Screen:
    """The screen of the features [N] bool that nothing gates and that can fire."""
    n, device = plan.num_features, plan.device
    every = torch.nn.functional.pad(is_screened, (0, -n % BLOCK)).view(-1, BLOCK)
    block_of = every.any(dim=1).nonzero().flatten()
    chosen = every[block_of]
    bits = (chosen.int() << torch.arange(BLOCK, device=device)).sum(dim=1, dtype=torch.int32)
    # Blocks' features [16, blocks]; those beyond the last or not looked at read another's numbers.
    feature = torch.where(chosen, block_of[:, None] * BLOCK + torch.arange(BLOCK, device=device), 0)
    feature = feature.T.contiguous()
    columns = feature.shape
    if plan.rank == 0:
        last_byte = ((plan.fire_below[feature] - 1) >> 32).to(torch.int32)
        none = torch.empty(0, device=device)
        per_norm, at_least = 0.0, 0.0
        loading, threshold, noise = none.half(), none, none
    else:
        last_byte = torch.empty(0, dtype=torch.int32, device=device)
        depth = plan.rank + -plan.rank % STEP if plan.rank > STEP else _depth(plan.rank)
        loading = torch.zeros(*columns, depth, dtype=torch.float16, device=device)
        loading[..., : plan.factor.shape[1]] = plan.factor[feature].half()
        threshold, noise = plan.threshold[feature], plan.noise_scale[feature]
        per_norm, at_least = _margin(plan, is_screened)
    return Screen(
        block_of.to(torch.int32), bits, last_byte, threshold, noise, loading, per_norm, at_least
    )


def _depth(rank: int) -> int:
    """The tensor cores' depth for a small rank: a power of two, 16 at least."""
    return max(16, triton.next_power_of_2(rank))


def _margin(plan: Plan, is_screened: torch.Tensor) -> tuple[float, float]:
    """How far the screen's sum can be below the exact test's, per unit of the factors' norm and
    in any case.

    With loading = q + dq and factor = e + de, q and e in float16, Cauchy and Schwarz give
    |loading . factor - q . e| <= |dq| |factor| + |q| |de|. A number loses 2**-11 of itself, and
    all of it where it is below 2**-14 and the hardware takes that for zero. A tensor core adds up
    exact products of which it drops what is below a bit of the greatest (Fasi, Higham, Mikaitis
    and Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 2021): less than
    2**-22 |q| |e| a factor. The exact test rounds its eight sums to float32, below
    (rank / 8 + 16) 2**-23 of the sizes that it adds up, the noise's among them (8 is above any).
    """
    largest, largest_kept, error = _largest_norms(plan.factor, is_screened)
    lost = 2.0**-14 * math.sqrt(plan.rank)
    rounding = (plan.rank / 8 + 16) * 2.0**-23
    per_norm = error + lost + largest_kept * (2.0**-11 + plan.rank * 2.0**-22) + rounding * largest
    at_least = largest_kept * lost + rounding * 8
    # One per cent for the rounding of the norm and of these numbers themselves.
    return 1.01 * per_norm, 1.01 * at_least


def _largest_norms(factor: torch.Tensor, chosen: torch.Tensor) -> tuple[float, float, float]:
    """Of the chosen rows of loadings: the largest norm, in float16, and of the difference."""
    largest = torch.zeros(3, dtype=torch.float64, device=factor.device)
    feature = chosen.nonzero().flatten()
    for part in feature.split(max(1, 2**24 // factor.shape[1])):
        rows = factor[part].double()
        kept = rows.half().double()
        norms = torch.stack([torch.linalg.vector_norm(x, dim=1) for x in (rows, kept, rows - kept)])
        largest = torch.maximum(largest, norms.amax(dim=1))
    whole, kept_norm, error = largest.tolist()
    return whole, kept_norm, error


def screen_features(
    screen: Screen,
    position: torch.Tensor,
    factor: torch.Tensor,
    norm: torch.Tensor,
    first: int,
    rows: int,
    tile_rows: int,
    tile_blocks: int,
    num_warps: int,
    held: Held | None = None,
) -> torch.Tensor:
    """Bits [rows, blocks] int16 of the features that may fire.

    They include every feature of ``looked`` that the exact test of :mod:`synthkern.stream` lets
    fire, and as few others as the bounds allow.
    """
    blocks = screen.num_blocks
    mask = torch.empty(rows, blocks, dtype=torch.int16, device=position.device)
    depth = screen.loading.shape[-1] if screen.loading.numel() else 0
    held = no_tables(position.device) if held is None else held
    launch(
        screen_kernel,
        (triton.cdiv(blocks, tile_blocks), triton.cdiv(rows, tile_rows)),
        position,
        screen.block_of,
        screen.looked,
        screen.last_byte,
        screen.threshold,
        screen.noise,
        screen.loading,
        factor,
        norm,
        mask,
        held.law_of,
        held.laws,
        held.threshold,
        first,
        rows,
        blocks,
        factor.shape[1],
        screen.per_norm,
        screen.at_least,
        held.law_of.numel(),
        held.length,
        ROWS=tile_rows,
        BLOCKS=tile_blocks,
        K=depth,
        STEP=min(STEP, depth) if depth else 16,
        HELD=held.depth,
        num_warps=num_warps,
    )
    return mask
