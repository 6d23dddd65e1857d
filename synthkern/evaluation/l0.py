"""How many entries are active at once."""

from __future__ import annotations

import numpy as np

from synthkern.evaluation.calculator import Array, Groups, SampleCalculator, Sums, count
from synthkern.evaluation.entries import Activations, entries_of
from synthkern.sparse import SparseActivations


class L0Calculator(SampleCalculator):
    """Mean number of entries of a sample that are not zero; 0 where there was no sample.

    A negative latent is active too.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> calculator = synthetic.L0Calculator()
        >>> calculator.add_batch(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]))
        >>> calculator.compute()
        1.5
    """

    def __init__(self) -> None:
        super().__init__(entries=count(), samples=count())

    def add_batch(self, activations: Activations) -> None:
        """Add activations [B, N]: dense, sparse COO or SparseActivations."""
        entries = entries_of("activations", activations)
        self.add_entries(entries, Groups([entries.batch_size]))

    def add_entries(self, entries: SparseActivations, groups: Groups) -> None:
        """Add the entries [B, N] that are not zero, by group."""
        self._add(groups, entries=groups.sum(entries.offsets.diff()), samples=groups.sizes)

    @property
    def total_l0(self) -> float:
        """Number of entries that are not zero, of all samples so far."""
        return self._total("entries")

    @staticmethod
    def figure(sums: Sums) -> Array:
        """The mean."""
        return sums["entries"] / np.maximum(1, sums["samples"])
