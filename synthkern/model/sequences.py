"""Whole sequences of a world's samples."""

from __future__ import annotations

from typing import Any

import torch

from synthkern._checks import as_int


def length_of(name: str, source: Any) -> int:
    """Positions of a sequence of a model or a generator.

    Raises:
        ValueError: where its samples are no positions of sequences.
    """
    plan = getattr(getattr(source, "activation_generator", source), "plan", None)
    sequence = getattr(plan, "sequence", None)
    if sequence is None:
        raise ValueError(f"{name} must be of a world with a SequenceConfig, got {source!r}")
    return int(sequence.length)


def samples_of(num_sequences: int, start: int, length: int) -> tuple[int, int]:
    """How many samples sequences ``start`` ... hold, and the index of the first.

    Raises:
        ValueError: where indices do not fit 64 bits, or there are 2**31 samples.
    """
    count = as_int("num_sequences", num_sequences, low=0, high=(2**31 - 1) // length)
    start = as_int("start", start, low=0, high=2**64 // length - count)
    return count * length, start * length


def in_sequences(samples: torch.Tensor, length: int) -> torch.Tensor:
    """Samples [S * T, ...] as sequences [S, T, ...], a view; of a COO tensor a coalesced one."""
    if samples.layout == torch.strided:
        return samples.view(-1, length, *samples.shape[1:])
    samples = samples.coalesce()
    sample, *rest = samples.indices().unbind(0)
    return torch.sparse_coo_tensor(
        torch.stack([sample // length, sample % length, *rest]),
        samples.values(),
        (samples.shape[0] // length, length, *samples.shape[1:]),
        is_coalesced=True,
        check_invariants=False,
    )
