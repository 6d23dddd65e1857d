"""Noise in hidden activations on the GPU.

The floor: hidden activations are read and written, 8 * D bytes a sample, and of every four
components a block of Philox and four normals are computed.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl

from synthkern.engine.backend import Noise
from synthkern.engine.triton.launch import launch, on_gpu, position_on
from synthkern.engine.triton.stream import block, index_of, normal, seed_of
from synthkern.stream import normal_table, words

NOISE = tl.constexpr(words.NOISE)
NOISE_FACTOR = tl.constexpr(words.NOISE_FACTOR)

#: Blocks of four components that a program draws, of one sample or of more where D is smaller: two
#: a lane of its four warps. Reasoned, not measured.
_BLOCKS = 256
_WARPS = 4
#: So many blocks of a sample's at least, which are a line of memory and more.
_LEAST_BLOCKS = 16
#: In the interpreter, where a program takes milliseconds however much it does.
_INTERPRETED_BLOCKS = 2**14


@triton.jit
def tile_of_normals(purpose, position, table, ROWS: tl.constexpr, BLOCKS: tl.constexpr):
    """The normals of a tile of samples by elements, the four of a block beside each other, and the
    samples' rows and the normals' places in these: three times [4 * ROWS * BLOCKS].
    """
    lane = tl.arange(0, ROWS * BLOCKS)
    first = tl.program_id(0).to(tl.int64) * ROWS
    element = tl.program_id(1) * BLOCKS + lane % BLOCKS
    key_low, key_high = seed_of(position)
    low, high = index_of(position, first + lane // BLOCKS)
    w0, w1, w2, w3 = block(purpose, element.to(tl.uint32), low, high, key_low, key_high)
    z = tl.interleave(
        tl.interleave(normal(w0, table), normal(w2, table)),
        tl.interleave(normal(w1, table), normal(w3, table)),
    )
    every = tl.arange(0, 4 * ROWS * BLOCKS)
    row = first + every // (4 * BLOCKS)
    return z, row, tl.program_id(1) * 4 * BLOCKS + every % (4 * BLOCKS)


@triton.jit(do_not_specialize=["batch", "rank"])
def noise_factors_kernel(
    position,  # [2] int64
    table,  # [513, 4] float32
    factors,  # [B, rank] float32, out
    batch,
    rank,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """A tile of samples by a tile of their noise factors."""
    z, row, k = tile_of_normals(NOISE_FACTOR, position, table, ROWS, BLOCKS)
    tl.store(factors + row * rank + k, z, mask=(row < batch) & (k < rank))


@triton.jit(do_not_specialize=["batch", "rank"])
def noise_kernel(
    hidden,  # [B, D] float32 or float64, in and out
    position,  # [2] int64
    table,  # [513, 4] float32
    std,  # [D] float32
    factor,  # [rank, D] float32
    factors,  # [B, rank] float32
    batch,
    dim,
    rank,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """A tile of samples by a tile of components, four to a block of words."""
    own, row, d = tile_of_normals(NOISE, position, table, ROWS, BLOCKS)
    inside = (row < batch) & (d < dim)
    place = hidden + row * dim + d
    total = tl.load(place, mask=inside, other=0)
    loadings = factor + d
    for k in range(rank):
        loading = tl.load(loadings, mask=inside, other=0).to(total.dtype)
        loadings += dim
        z = tl.load(factors + row * rank + k, mask=inside, other=0).to(total.dtype)
        total = tl.fma(loading, z, total)
    scale = tl.load(std + d, mask=inside, other=0).to(total.dtype)
    tl.store(place, tl.fma(scale, own.to(total.dtype), total), mask=inside)


def add_noise(hidden: torch.Tensor, noise: Noise, seed: int, start: int, /) -> None:
    """Add noise to hidden activations [B, D] in place, float32 or float64, contiguous.

    Equals :func:`synthkern.engine.reference.noise.add_noise` bit for bit.
    """
    add_noise_at(hidden, noise, position_on(hidden.device, seed, start))


def add_noise_at(hidden: torch.Tensor, noise: Noise, position: torch.Tensor) -> None:
    """The same from a position [2] in device memory on, which is read when this runs."""
    (batch, dim), rank = hidden.shape, len(noise.factor)
    table = _table(hidden.device)
    factors = torch.empty(batch, rank, device=hidden.device)
    if rank:
        rows, blocks = _tile(batch, rank, hidden.device)
        launch(
            noise_factors_kernel,
            (triton.cdiv(batch, rows), triton.cdiv(rank, 4 * blocks)),
            position,
            table,
            factors,
            batch,
            rank,
            ROWS=rows,
            BLOCKS=blocks,
            num_warps=_WARPS,
        )
    rows, blocks = _tile(batch, dim, hidden.device)
    launch(
        noise_kernel,
        (triton.cdiv(batch, rows), triton.cdiv(dim, 4 * blocks)),
        hidden,
        position,
        table,
        noise.std.contiguous(),
        noise.factor.contiguous(),
        factors,
        batch,
        dim,
        rank,
        ROWS=rows,
        BLOCKS=blocks,
        num_warps=_WARPS,
    )


@functools.cache
def _table(device: torch.device) -> torch.Tensor:
    """The coefficients of the normals' cubics, [513, 4] float32."""
    # From the host's memory, so that the copy is waited for and every stream may read it.
    return normal_table(torch.device("cpu")).T.contiguous().to(device)


def _tile(batch: int, numbers: int, device: torch.device) -> tuple[int, int]:
    """How many samples and how many blocks of their numbers a program takes."""
    most = _BLOCKS if on_gpu(device) else _INTERPRETED_BLOCKS
    wanted = triton.cdiv(numbers, 4)
    # In whole tiles where that is possible.
    blocks = min(triton.next_power_of_2(wanted), max(_LEAST_BLOCKS, math.gcd(wanted, most)))
    return min(most // blocks, triton.next_power_of_2(max(1, batch))), blocks
