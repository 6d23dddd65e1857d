"""Magnitudes of manifolds as points of their circles, on lists of active features.

A pass over the entries of each sample, after the later forests: a sample costs a visit of its
entries, a Philox block and some 40 operations for each circle of every leader among them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.launch import launch, on_gpu
from synthkern.engine.triton.rows import Rows, drop_zeros
from synthkern.engine.triton.sample.held import Held, held_index
from synthkern.engine.triton.stream import block, index_of, seed_of
from synthkern.plan.manifolds import Manifolds
from synthkern.stream import circle, words

PHASE = tl.constexpr(words.PHASE)
RADIANS = tl.constexpr(circle.RADIANS)
SINE_0, SINE_1, SINE_2 = (tl.constexpr(number) for number in circle.SINE)
COSINE_0, COSINE_1, COSINE_2 = (tl.constexpr(number) for number in circle.COSINE)


@triton.jit
def unit_point(word):
    """cos and sin of 2 pi word / 2**32; uint32 words."""
    quarter = (word + 0x20000000) >> 30
    x = (word - (quarter << 30)).to(tl.int32, bitcast=True).to(tl.float32) * RADIANS
    t = x * x
    sine = x + x * t * ((SINE_2 * t + SINE_1) * t + SINE_0)
    cosine = 1.0 - t * (0.5 - t * ((COSINE_2 * t + COSINE_1) * t + COSINE_0))
    swaps = (quarter & 1) == 1
    first = tl.where(swaps, sine, cosine)
    second = tl.where(swaps, cosine, sine)
    first = tl.where(((quarter + 1) & 2) == 2, -first, first)
    return first, tl.where((quarter & 2) == 2, -second, second)


@triton.jit(do_not_specialize=["batch_size", "circles", "length"])
def manifolds_kernel(
    begin,  # [B] int64
    count,  # [B] int32
    indices,  # [size] int32
    values,  # [size] float32
    is_leader,  # [N] uint8
    position,  # [2] int64: seed, index of the first sample
    to_begin,  # [B] int64
    to_count,  # [B] int32, out
    to_indices,  # [2k size] int32, out
    to_values,  # [2k size] float32, out
    law_of,  # [N] int32, of sequences
    laws,  # [M, 3] int32
    threshold,  # [K] int32
    part,  # of a magnitude, what a circle gets
    high,  # 1 + r
    low,  # 1 - r
    batch_size,
    circles,  # k
    length,
    SINGLE: tl.constexpr,
    UNIFORM: tl.constexpr,
    LANES: tl.constexpr,
    HELD: tl.constexpr,
):
    """One sample after the other, its entries copied or made into points."""
    key_low, key_high = seed_of(position)
    for row in range(tl.program_id(0), batch_size, tl.num_programs(0)):
        low_word, high_word = index_of(position, row + tl.zeros([LANES], tl.int64))
        source = tl.load(begin + row)
        target = tl.load(to_begin + row)
        size = tl.load(count + row)
        written = 0
        for base in range(0, size, LANES):
            entry = base + tl.arange(0, LANES)
            here = entry < size
            feature = tl.load(indices + source + entry, mask=here, other=0)
            value = tl.load(values + source + entry, mask=here, other=0.0)
            leads = here & (tl.load(is_leader + feature, mask=here, other=0) != 0)
            width = tl.where(leads, 2 * circles, here.to(tl.int32))
            at = target + written + tl.cumsum(width, axis=0) - width
            tl.store(to_indices + at, feature, mask=here & (leads == 0))
            tl.store(to_values + at, value, mask=here & (leads == 0))
            radius = value if SINGLE else value * part
            if tl.max(leads.to(tl.int32), axis=0) > 0:
                at_low, at_high = low_word, high_word
                if HELD > 0:
                    law = tl.load(law_of + feature)
                    at_low, at_high = held_index(
                        feature, 0, law, low_word, high_word, key_low, key_high, laws, threshold,
                        length, HELD,
                    )  # fmt: skip
                for c in range(circles):
                    element = (feature + c // 4).to(tl.uint32)
                    w0, w1, w2, w3 = block(PHASE, element, at_low, at_high, key_low, key_high)
                    word = w0
                    if c % 4 == 1:
                        word = w1
                    if c % 4 == 2:
                        word = w2
                    if c % 4 == 3:
                        word = w3
                    if UNIFORM:
                        x, y = unit_point(word)
                    else:
                        cosine, sine = unit_point(word >> 1)
                        a = cosine * high
                        b = sine * low
                        aa = a * a
                        bb = b * b
                        ab = a * b
                        x = tl.math.div_rn(aa - bb, aa + bb)
                        y = tl.math.div_rn(ab + ab, aa + bb)
                    tl.store(to_indices + at + 2 * c, feature + 2 * c, mask=leads)
                    tl.store(to_indices + at + 2 * c + 1, feature + 2 * c + 1, mask=leads)
                    tl.store(to_values + at + 2 * c, radius * x, mask=leads)
                    tl.store(to_values + at + 2 * c + 1, radius * y, mask=leads)
            written += tl.sum(width, axis=0)
        tl.store(to_count + row, written)


def apply_manifolds(manifolds: Manifolds, rows: Rows, position: torch.Tensor, held: Held) -> Rows:
    """Samples with the entries of manifolds in place of their leaders', without any wait.

    Args:
        manifolds: on the device of ``rows``.
        rows: B samples, their entries above 0.
        position: [2] int64, the seed and the index of sample 0, as bit patterns.
        held: the plan's tables of sequences.

    Returns:
        the same samples in lists of their own, with room for 2k times as many entries; their
        ``total`` is not counted.
    """
    width, device = manifolds.width, rows.indices.device
    made = Rows(
        begin=width * rows.begin,
        counts=torch.empty_like(rows.counts),
        indices=torch.empty(width * rows.size, dtype=torch.int32, device=device),
        values=torch.empty(width * rows.size, dtype=torch.float32, device=device),
        total=rows.total,
    )
    batch_size = rows.counts.numel()
    high, low = circle.slopes(manifolds.concentration)
    launch(
        manifolds_kernel,
        (batch_size if on_gpu(device) else min(1, batch_size),),
        rows.begin,
        rows.counts,
        rows.indices,
        rows.values,
        manifolds.is_leader,
        position,
        made.begin,
        made.counts,
        made.indices,
        made.values,
        held.law_of,
        held.laws,
        held.threshold,
        circle.part_of(manifolds.dimension),
        high,
        low,
        batch_size,
        manifolds.dimension,
        held.length,
        SINGLE=manifolds.dimension == 1,
        UNIFORM=high == low,
        LANES=32 if on_gpu(device) else 256,
        HELD=held.depth,
        num_warps=1,
    )
    drop_zeros(made)
    return made
