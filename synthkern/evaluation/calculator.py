"""What the calculators have in common: sums over samples, from which a figure follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Generic, TypeVar

import torch

from synthkern._checks import check_tensor
from synthkern.sparse import SparseActivations

Figure = TypeVar("Figure")
#: Sums by name, each [..., one sum's own shape].
Sums = Mapping[str, torch.Tensor]


class Groups:
    """Which groups the rows of a batch are in: neighbours, the first rows in group ``first``.

    Args:
        sizes: rows of the batch in each of its groups.
        first: number of the first of these groups.
    """

    def __init__(self, sizes: Sequence[int], first: int = 0) -> None:
        self.place = slice(first, first + len(sizes))
        self.sizes = torch.tensor(sizes, device="cpu")

    @cached_property
    def of_rows(self) -> torch.Tensor:
        """The group of each row, from 0 for the batch's first."""
        return torch.arange(len(self.sizes), device="cpu").repeat_interleave(self.sizes)

    def sum(self, rows: torch.Tensor) -> torch.Tensor:
        """Sums of rows [B, ...] by group, on the CPU in float64, or int64 of whole numbers."""
        wide = torch.float64 if rows.is_floating_point() else torch.int64
        if len(self.sizes) == 1:
            return rows.sum(dim=0, keepdim=True, dtype=wide).cpu()
        sums = rows.new_zeros(len(self.sizes), *rows.shape[1:], dtype=wide)
        return sums.index_add_(0, self.of_rows.to(rows.device), rows.to(wide)).cpu()

    def apart(self, entries: SparseActivations) -> SparseActivations:
        """Entries [B, N] as [B, G N]: each group has columns of its own."""
        if len(self.sizes) == 1:
            return entries
        columns = self.of_rows.to(entries.device) * entries.num_features
        shifts = columns.repeat_interleave(entries.offsets.diff(), output_size=entries.nnz)
        return SparseActivations(
            entries.offsets,
            entries.indices + shifts.int(),
            entries.values,
            entries.num_features * len(self.sizes),
            validate=False,
        )


class Calculator(ABC, Generic[Figure]):
    """A figure of all samples that :meth:`add_batch` was given.

    The sums of several groups of samples may be kept apart, see :meth:`keep_apart`.

    Args:
        sums: by name, float64 or int64 tensors on the CPU, all zero.
    """

    def __init__(self, **sums: torch.Tensor) -> None:
        self._sums = {name: zero[None].clone() for name, zero in sums.items()}

    @abstractmethod
    def compute(self) -> Figure:
        """The figure of the samples so far."""

    def keep_apart(self, groups: int) -> None:
        """From now on keep the sums of that many groups; there was no sample yet."""
        for name, zero in self._sums.items():
            self._sums[name] = zero.new_zeros(groups, *zero.shape[1:])

    def whole(self) -> dict[str, torch.Tensor]:
        """The sums over all groups."""
        return {name: sums.sum(dim=0) for name, sums in self._sums.items()}

    def left_out(self) -> dict[str, torch.Tensor]:
        """The sums [G + 1, ...] over all groups but each, and over all."""
        return {
            name: sums.sum(dim=0) - torch.cat((sums, sums.new_zeros(1, *sums.shape[1:])))
            for name, sums in self._sums.items()
        }

    def _add(self, groups: Groups, **terms: torch.Tensor) -> None:
        for name, term in terms.items():
            self._sums[name][groups.place] += term

    def _total(self, name: str) -> float:
        return float(self._sums[name].sum())

    def _count(self, name: str) -> int:
        return int(self._sums[name].sum())


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
