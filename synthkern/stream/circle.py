"""The stream's circles: words as points of the unit circle. See the package's docstring."""

from __future__ import annotations

import math

import numpy as np
import torch

#: One unit of a word in radians, 2 pi / 2**32, as a float32.
RADIANS = float.fromhex("0x1.921fb6p-30")

#: sin x = x + x t ((S2 t + S1) t + S0) and cos x = 1 - t (0.5 - t ((C2 t + C1) t + C0)) with
#: t = x * x, float32s: Chebyshev interpolation over t in [0, (pi / 4)**2] of (sin x / x - 1) / t
#: and (cos x - 1 + t / 2) / t**2.
SINE = tuple(map(float.fromhex, ("-0x1.555552p-3", "0x1.110c2ap-7", "-0x1.9aca02p-13")))
COSINE = tuple(map(float.fromhex, ("0x1.555554p-5", "-0x1.6c12d4p-10", "0x1.9bd8d2p-16")))


def float32(number: float) -> float:
    """A number rounded to float32."""
    return float(np.float32(number))


def part_of(dimension: int) -> float:
    """Of a magnitude, what each of so many circles gets: float32(1 / sqrt(k))."""
    return float32(1 / math.sqrt(dimension))


def slopes(concentration: float) -> tuple[float, float]:
    """1 + r and 1 - r as float32s: on half angles the Moebius map takes them times cos and sin."""
    return float32(1 + concentration), float32(1 - concentration)


def unit_point(word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, float32, of 2 pi word / 2**32, for 32-bit words in an int64 tensor."""
    quarter = (word + 2**29) >> 30  # the nearest quarter turn
    x = (word - (quarter << 30)).to(torch.float32) * RADIANS
    t = x * x
    sine = x + x * t * ((SINE[2] * t + SINE[1]) * t + SINE[0])
    cosine = 1.0 - t * (0.5 - t * ((COSINE[2] * t + COSINE[1]) * t + COSINE[0]))
    swaps = (quarter & 1) == 1
    first, second = torch.where(swaps, sine, cosine), torch.where(swaps, cosine, sine)
    first = torch.where(((quarter + 1) & 2) == 2, -first, first)
    return first, torch.where((quarter & 2) == 2, -second, second)


def circle_point(word: torch.Tensor, concentration: float) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of a phase that is uniform, or wrapped Cauchy of that mean resultant length."""
    high, low = slopes(concentration)
    if high == low:
        return unit_point(word)
    cosine, sine = unit_point(word >> 1)
    a, b = cosine * high, sine * low
    aa, bb, ab = a * a, b * b, a * b
    norm = aa + bb
    return (aa - bb) / norm, (ab + ab) / norm
