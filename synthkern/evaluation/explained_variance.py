"""How much of the inputs' variance the reconstructions account for."""

from __future__ import annotations

import numpy as np
import torch

from synthkern._checks import is_whole
from synthkern.evaluation.calculator import (
    Array,
    Groups,
    SampleCalculator,
    Sums,
    check_pair,
    count,
    total,
)

#: A variance or an error below this is none.
_NOTHING = 1e-10


class ExplainedVarianceCalculator(SampleCalculator):
    """``1 - E|x - y|**2 / (E|x|**2 - |E x|**2)`` of inputs x and reconstructions y.

    0 where there was no sample. Inputs that do not vary give 1 where the reconstructions equal
    them and 0 elsewhere.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> hidden = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> calculator = synthetic.ExplainedVarianceCalculator()
        >>> calculator.add_batch(0.5 * hidden, hidden)
        >>> calculator.compute()
        0.75
    """

    def __init__(self) -> None:
        super().__init__(x=total(), squares=total(), residuals=total(), samples=count())

    def add_batch(self, sae_output: torch.Tensor, hidden_acts: torch.Tensor) -> None:
        """Add reconstructions [B, D] and their inputs [B, D]."""
        sae_output, hidden_acts = (
            x.double() if is_whole(x) else x for x in (sae_output, hidden_acts)
        )
        check_pair(sae_output, hidden_acts)
        sums = self._sums["x"]
        if sums.ndim == 2 and hidden_acts.shape[1] != sums.shape[1]:
            raise ValueError(
                f"hidden_acts must have shape [B, {sums.shape[1]}] as before, "
                f"got {list(hidden_acts.shape)}"
            )
        self.add_rows(sae_output, hidden_acts, Groups([len(hidden_acts)]))

    def add_rows(self, sae_output: torch.Tensor, hidden_acts: torch.Tensor, groups: Groups) -> None:
        """Add them by group."""
        if self._sums["x"].ndim == 1:  # the first say how wide they are
            sums = self._sums["x"]
            self._sums["x"] = np.zeros((len(sums), hidden_acts.shape[1]))
        x, residual = hidden_acts.detach(), hidden_acts.detach() - sae_output.detach()
        squares, residuals = (
            torch.linalg.vector_norm(y, dim=1, dtype=torch.float64).square() for y in (x, residual)
        )
        self._add(
            groups,
            x=groups.sum(x),
            squares=groups.sum(squares),
            residuals=groups.sum(residuals),
            samples=groups.sizes,
        )

    @property
    def sum_x(self) -> torch.Tensor | None:
        """Sum of the inputs so far, float64 [D], a copy; None where there was none."""
        return torch.from_numpy(self.whole()["x"]) if self._sums["x"].ndim == 2 else None

    @property
    def sum_squared_norm(self) -> float:
        """Sum of the inputs' squared norms so far."""
        return self._total("squares")

    @property
    def sum_squared_residual(self) -> float:
        """Sum of the squared distances of reconstructions and inputs so far."""
        return self._total("residuals")

    @staticmethod
    def figure(sums: Sums) -> Array:
        """The share."""
        samples = np.maximum(1, sums["samples"])
        error = sums["residuals"] / samples
        means = np.square(sums["x"] / samples[..., None]).sum(axis=-1)
        variance = sums["squares"] / samples - means
        varies = ~(variance < _NOTHING)
        explained = np.where(varies, 1 - error / np.where(varies, variance, 1), error < _NOTHING)
        return np.where(sums["samples"] > 0, explained, 0.0)
