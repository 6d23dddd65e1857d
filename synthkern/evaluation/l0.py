"""How many entries are active at once."""

from __future__ import annotations

from synthkern.evaluation.calculator import Calculator, count
from synthkern.evaluation.entries import Activations, entries_of


class L0Calculator(Calculator[float]):
    """Mean number of entries of a sample that are not zero; 0 where there was no sample.

    A negative latent is active too.

    Attributes:
        total_l0: number of entries that are not zero, of all samples so far.
        num_samples: samples so far.
    """

    def __init__(self) -> None:
        super().__init__(entries=count(), samples=count())

    def add_batch(self, activations: Activations) -> None:
        """Add activations [B, N]: dense, sparse COO or SparseActivations."""
        entries = entries_of("activations", activations)
        self._add(entries=entries.nnz, samples=entries.batch_size)

    @property
    def total_l0(self) -> float:
        """Number of entries that are not zero, of all samples so far."""
        return float(self._sums["entries"])

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return self._count("samples")

    def compute(self) -> float:
        """The mean over the samples so far."""
        return self.total_l0 / max(1, self.num_samples)
