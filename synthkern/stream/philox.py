"""Philox4x32-10 in PyTorch: 32-bit words held in int64 tensors, on any device."""

from __future__ import annotations

import torch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(
    counter: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    key: tuple[int, int],
    rounds: int = 10,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the four output words of Philox4x32 (Salmon et al., SC 2011, section 3).

    Args:
        counter: four int64 tensors that broadcast together, each word in [0, 2**32).
        key: two words in [0, 2**32).
        rounds: number of rounds; the stream uses 10.

    Returns:
        Four int64 tensors with words in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(word: torch.Tensor, multiplier: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word of the 64-bit product, by halves, as int64 has no unsigned product."""
    low_part = word * (multiplier & 0xFFFF)
    high_part = word * (multiplier >> 16)
    carry = (low_part >> 16) + high_part
    return carry >> 16, ((carry << 16) | (low_part & 0xFFFF)) & _MASK
