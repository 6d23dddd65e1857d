"""Firing magnitudes other than plain normals; their definition is in synthkern.stream."""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.engine.triton.stream import MAGNITUDE, block, four_of, normal
from synthkern.plan import magnitudes
from synthkern.stream import magnitudes as stream

EXPONENTIAL = tl.constexpr(magnitudes.EXPONENTIAL)
LOGARITHMIC = tl.constexpr(magnitudes.LOGARITHMIC)
SHARED = tl.constexpr(magnitudes.SHARED)

LOG2_E = tl.constexpr(stream.LOG2_E)
LN2_HIGH = tl.constexpr(stream.LN2_HIGH)
LN2_LOW = tl.constexpr(stream.LN2_LOW)
ROUNDING = tl.constexpr(stream.ROUNDING)
E0 = tl.constexpr(stream.EXP[0])
E1 = tl.constexpr(stream.EXP[1])
E2 = tl.constexpr(stream.EXP[2])
E3 = tl.constexpr(stream.EXP[3])
E4 = tl.constexpr(stream.EXP[4])


@triton.jit
def magnitudes_of(
    feature, z, low, high, key_low, key_high,
    table,  # [513, 4] float32
    law,  # [1 + N, 2] float32: factors of the sample's normal and the own; location and scale
    exponentials,  # [288, 4] float32
    LAW: tl.constexpr,
):  # fmt: skip
    """Magnitudes [L] of features, before any clipping, from the normals of their own words.

    Equals ``_magnitudes`` of :mod:`synthkern.engine.reference.sampler` bit for bit.
    """
    if SHARED & LAW:
        word, w1, w2, w3 = block(MAGNITUDE, tl.zeros_like(low), low, high, key_low, key_high)
        z = tl.load(law) * normal(word, table) + tl.load(law + 1) * z
    if EXPONENTIAL & LAW:
        z = exponential_of(z, exponentials)
    place = law + 2 + feature.to(tl.int64) * 2
    x = tl.load(place) + tl.load(place + 1) * z
    if LOGARITHMIC & LAW:
        x = exponential(x)
    return x


@triton.jit
def exponential_of(z, exponentials):
    """-log(1 - Phi(z)) of normals [L]."""
    segment = (z * 16.0 + 144.0).to(tl.int32)
    at = z - (segment.to(tl.float32) * 0.0625 - 9.0)
    c0, c1, c2, c3 = four_of(exponentials, segment)
    return ((c3 * at + c2) * at + c1) * at + c0


@triton.jit
def exponential(x):
    """exp(x) of numbers [L]."""
    x = tl.minimum(tl.maximum(x, -110.0), 90.0)
    whole = (x * LOG2_E + ROUNDING) - ROUNDING
    r = (x - whole * LN2_HIGH) - whole * LN2_LOW
    p = (((r * E4 + E3) * r + E2) * r + E1) * r + E0
    y = (p * (r * r) + r) + 1.0
    power = whole.to(tl.int32)
    half = power >> 1
    return (y * _power_of_2(half)) * _power_of_2(power - half)


@triton.jit
def _power_of_2(k):
    return ((k + 127) << 23).to(tl.float32, bitcast=True)
