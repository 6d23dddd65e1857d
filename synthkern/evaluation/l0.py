"""How many entries are active at once."""

from __future__ import annotations

from synthkern.evaluation.calculator import Calculator, count
from synthkern.evaluation.entries import Activations, entries_of


class L0Calculator(Calculator[float]):
    """Mean number of entries of a sample that are not zero; 0 where there was no sample.

    A negative latent is active too.
    """

    def __init__(self) -> None:
        super().__init__(entries=count(), samples=count())

    def add_batch(self, activations: Activations) -> None:
        """Add activations [B, N]: dense, sparse COO or SparseActivations."""
        entries = entries_of("activations", activations)
        self._add(entries=entries.nnz, samples=entries.batch_size)

    def compute(self) -> float:
        """The mean over the samples so far."""
        return self._count("entries") / max(1, self._count("samples"))
