"""What the calculators have in common: sums over samples, from which a figure follows."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch

from synthkern._checks import check_tensor

Figure = TypeVar("Figure")
Self = TypeVar("Self", bound="Calculator")  # type: ignore[type-arg]


class Calculator(ABC, Generic[Figure]):
    """A figure of all samples that :meth:`add_batch` was given.

    Args:
        sums: by name, float64 or int64 tensors on the CPU, all zero.
    """

    def __init__(self, **sums: torch.Tensor) -> None:
        self._sums = sums

    @abstractmethod
    def compute(self) -> Figure:
        """The figure of the samples so far."""

    def plus(self: Self, other: Self, times: int = 1) -> Self:
        """The calculator of this one's samples and the other's; with -1, of these without those."""
        result = copy.copy(self)
        result._sums = {name: own + times * other._sums[name] for name, own in self._sums.items()}
        return result

    def _add(self, **terms: torch.Tensor | int) -> None:
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + (term.cpu() if torch.is_tensor(term) else term)

    def _count(self, name: str) -> int:
        return int(self._sums[name])


def count() -> torch.Tensor:
    """A number of things, none so far."""
    return torch.zeros((), dtype=torch.int64, device="cpu")


def total() -> torch.Tensor:
    """A sum, of nothing so far."""
    return torch.zeros((), dtype=torch.float64, device="cpu")


def check_pair(sae_output: torch.Tensor, hidden_acts: torch.Tensor) -> None:
    """Raise unless both are floating point of one shape [B, D]."""
    for name, value in (("sae_output", sae_output), ("hidden_acts", hidden_acts)):
        check_tensor(name, value)
        if value.dim() != 2 or not value.is_floating_point():
            raise ValueError(
                f"{name} must be floating point of shape [B, D], got {value.dtype} "
                f"{list(value.shape)}"
            )
    if sae_output.shape != hidden_acts.shape:
        raise ValueError(
            f"sae_output must have shape {list(hidden_acts.shape)} as hidden_acts, "
            f"got {list(sae_output.shape)}"
        )
