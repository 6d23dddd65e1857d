"""Held indices along sequences, literally."""

from __future__ import annotations

import torch

from synthkern.plan.sequence import SequencePlan
from synthkern.stream.words import FACTOR_SCHEDULE, schedule_words, sequence_position


def held_features(sequence: SequencePlan, index: torch.Tensor, seed: int) -> torch.Tensor:
    """The held index of every feature for the samples with indices [B, 2]: [B, N, 2]."""
    return _held(sequence, sequence.law, 0, index, seed)


def held_factors(sequence: SequencePlan, rank: int, index: torch.Tensor, seed: int) -> torch.Tensor:
    """The held index of every factor: [B, rank, 2]."""
    law = sequence.law.new_full((rank,), sequence.factor_law)
    return _held(sequence, law, FACTOR_SCHEDULE, index, seed)


def _held(
    sequence: SequencePlan, law: torch.Tensor, first: int, index: torch.Tensor, seed: int
) -> torch.Tensor:
    """The held indices [B, E, 2] of elements with laws [E]."""
    number, position = sequence_position(index, sequence.length)
    words = schedule_words(first, law.numel(), number, seed)
    age, residual = (_span(sequence, law, word) for word in words)
    position = position.unsqueeze(1)
    back = torch.minimum(position, (position + age) % (age + residual + 1))
    low, high = index[:, None, 0] - back, index[:, None, 1]
    # back is at most the index, so that the high word is not below zero.
    return torch.stack([low & 0xFFFFFFFF, high - (low < 0).long()], dim=2)


def _span(sequence: SequencePlan, law: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """The geometric numbers [B, E] of words [B, E]."""
    span = torch.empty_like(word)
    for m in law.unique().tolist():
        begin, size, least = sequence.laws[m].tolist()
        ascending = sequence.threshold[begin : begin + size].flip(0).contiguous()
        of_law = (law == m).nonzero().flatten()
        below = torch.searchsorted(ascending, word[:, of_law].contiguous())
        span[:, of_law] = least + size - below
    return span
