"""The transforms of the stream's normals that magnitudes need: see the package's docstring."""

from __future__ import annotations

import functools

import torch

from synthkern import _core
from synthkern.stream.words import MAGNITUDE, block, normal

#: Of exp(r) = 1 + r + r^2 * (a polynomial), constant first, for |r| <= log(2) / 2: the least
#: greatest error relative to exp(r), 3.1e-9, rounded to float32.
EXP = (
    float.fromhex("0x1.fffffcp-2"),
    float.fromhex("0x1.555490p-3"),
    float.fromhex("0x1.5558f4p-5"),
    float.fromhex("0x1.123a6cp-7"),
    float.fromhex("0x1.6a2352p-10"),
)
#: 1 / log(2), and log(2) in two parts, the first of few bits, so that whole multiples are exact.
LOG2_E = float.fromhex("0x1.715476p+0")
LN2_HIGH, LN2_LOW = float.fromhex("0x1.63p-1"), float.fromhex("-0x1.bd0106p-13")
#: Adding and subtracting it rounds a float32 to the nearest integer.
ROUNDING = 1.5 * 2**23


def shared_normals(index: torch.Tensor, seed: int) -> torch.Tensor:
    """The normal [B, 1] that the magnitudes of a sample [B, 2] have in common."""
    element = torch.zeros(1, dtype=torch.int64, device=index.device)
    return normal(block(MAGNITUDE, element, index, seed)[0])


def exponential_of(z: torch.Tensor) -> torch.Tensor:
    """-log(1 - Phi(z)) of normals z, float32 of any shape, \\|z\\| < 9: an exponential variable.

    Against the exact value the error is below 1.5 units in the last place from z = -2 on. Below,
    where values are less than 0.023, it is a part of the value: 3.3e-6 down to z = -5, 8.7e-6 down
    to -6.338, where single normals end, and 3.9e-5 down to -8.963, where sums of two do.
    """
    segment = (z * 16.0 + 144.0).to(torch.int32)
    at = z - (segment.to(torch.float32) * 0.0625 - 9.0)
    c0, c1, c2, c3 = exponential_table(z.device)[:, segment.long()]
    return ((c3 * at + c2) * at + c1) * at + c0


def exponential(x: torch.Tensor) -> torch.Tensor:
    """exp(x), float32 of any shape, within 1 unit in the last place, subnormal numbers too."""
    x = x.clamp(-110.0, 90.0)
    whole = (x * LOG2_E + ROUNDING) - ROUNDING
    r = (x - whole * LN2_HIGH) - whole * LN2_LOW
    e0, e1, e2, e3, e4 = EXP
    p = (((e4 * r + e3) * r + e2) * r + e1) * r + e0
    y = (p * (r * r) + r) + 1.0
    power = whole.to(torch.int32)
    half = power >> 1
    return (y * _power_of_2(half)) * _power_of_2(power - half)


def _power_of_2(k: torch.Tensor) -> torch.Tensor:
    return ((k + 127) << 23).view(torch.float32)


@functools.cache
def exponential_table(device: torch.device) -> torch.Tensor:
    """The coefficients of :func:`exponential_of`'s cubics, float32 [4, 288], constant first."""
    table: torch.Tensor = torch.from_numpy(_core.exponential_table()).T.contiguous().to(device)
    return table
