"""How long reconstructions are, beside what they reconstruct."""

from __future__ import annotations

import numpy as np
import torch

from synthkern._checks import as_float
from synthkern.evaluation.calculator import (
    Array,
    Groups,
    SampleCalculator,
    Sums,
    check_pair,
    count,
    total,
)


class ShrinkageCalculator(SampleCalculator):
    """Mean norm of a reconstruction in norms of its input; 0 where no sample counted.

    Args:
        min_input_norm: an input whose norm is not above this counts for nothing.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> hidden = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
        >>> calculator = synthetic.ShrinkageCalculator()
        >>> calculator.add_batch(0.5 * hidden, hidden)
        >>> calculator.compute()
        0.5
    """

    def __init__(self, min_input_norm: float = 1e-6) -> None:
        super().__init__(ratios=total(), samples=count())
        self.min_input_norm = as_float("min_input_norm", min_input_norm, low=0)

    def add_batch(self, sae_output: torch.Tensor, hidden_acts: torch.Tensor) -> None:
        """Add reconstructions [B, D] and their inputs [B, D]."""
        check_pair(sae_output, hidden_acts)
        self.add_rows(sae_output, hidden_acts, Groups([len(hidden_acts)]))

    def add_rows(self, sae_output: torch.Tensor, hidden_acts: torch.Tensor, groups: Groups) -> None:
        """Add them by group."""
        norms = [
            torch.linalg.vector_norm(x.detach(), dim=1, dtype=torch.float64).cpu()
            for x in (sae_output, hidden_acts)
        ]
        counted = norms[1] > self.min_input_norm
        ratios = (norms[0] / norms[1]).where(counted, 0)
        self._add(groups, ratios=groups.sum(ratios), samples=groups.sum(counted))

    @property
    def total_shrinkage(self) -> float:
        """Sum of the ratios so far."""
        return self._total("ratios")

    @staticmethod
    def figure(sums: Sums) -> Array:
        """The mean."""
        return sums["ratios"] / np.maximum(1, sums["samples"])
