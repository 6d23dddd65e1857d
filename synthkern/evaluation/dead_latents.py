"""Latents that never fire."""

from __future__ import annotations

import numpy as np
import torch

from synthkern._checks import as_int
from synthkern.evaluation.calculator import Array, Calculator, Groups, Sums
from synthkern.evaluation.entries import Activations, entries_of


class DeadLatentsCalculator(Calculator[int]):
    """Number of latents that were zero in every sample; all of them where there was no sample.

    Args:
        num_latents: M, at least 0.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> calculator = synthetic.DeadLatentsCalculator(num_latents=3)
        >>> calculator.add_batch(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
        >>> calculator.compute()
        1
    """

    def __init__(self, num_latents: int) -> None:
        self.num_latents = as_int("num_latents", num_latents, low=0)
        super().__init__(fires=np.zeros(self.num_latents, np.int64))

    def add_batch(self, sae_latents: Activations) -> None:
        """Add latents [B, M]: dense, sparse COO or SparseActivations."""
        entries = entries_of("sae_latents", sae_latents, self.num_latents)
        fires = torch.bincount(entries.indices, minlength=self.num_latents).cpu().numpy()
        self._add(Groups([entries.batch_size]), fires=fires)

    @property
    def latent_ever_fired(self) -> torch.Tensor:
        """Which latents have fired so far, bool [M]; a copy."""
        return torch.from_numpy(self.whole()["fires"] > 0)

    def compute(self) -> int:
        """How many have not fired so far."""
        return int(self.figure(self.whole()))

    @staticmethod
    def figure(sums: Sums) -> Array:
        """The number."""
        return (sums["fires"] == 0).sum(axis=-1)
