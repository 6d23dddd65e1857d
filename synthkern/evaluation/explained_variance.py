"""How much of the inputs' variance the reconstructions account for."""

from __future__ import annotations

import torch

from synthkern.evaluation.calculator import Calculator, check_pair, count, total

#: A variance or an error below this is none.
_NOTHING = 1e-10


class ExplainedVarianceCalculator(Calculator[float]):
    """``1 - E|x - y|**2 / (E|x|**2 - |E x|**2)`` of inputs x and reconstructions y.

    0 where there was no sample. Inputs that do not vary give 1 where the reconstructions equal
    them and 0 elsewhere.
    """

    def __init__(self) -> None:
        super().__init__(x=total(), squares=total(), residuals=total(), samples=count())

    def add_batch(self, sae_output: torch.Tensor, hidden_acts: torch.Tensor) -> None:
        """Add reconstructions [B, D] and their inputs [B, D]."""
        check_pair(sae_output, hidden_acts)
        width = self._sums["x"].numel()
        if self._sums["x"].dim() and hidden_acts.shape[1] != width:
            raise ValueError(
                f"hidden_acts must have shape [B, {width}] as before, got {list(hidden_acts.shape)}"
            )
        x, residual = hidden_acts.detach(), hidden_acts.detach() - sae_output.detach()
        squares, residuals = (
            torch.linalg.vector_norm(y, dim=1, dtype=torch.float64).square().sum()
            for y in (x, residual)
        )
        self._add(
            x=x.sum(dim=0, dtype=torch.float64),
            squares=squares,
            residuals=residuals,
            samples=len(x),
        )

    @property
    def sum_x(self) -> torch.Tensor | None:
        """Sum of the inputs so far, float64 [D], a copy; None where there was none."""
        return self._sums["x"].clone() if self._sums["x"].dim() else None

    @property
    def sum_squared_norm(self) -> float:
        """Sum of the inputs' squared norms so far."""
        return float(self._sums["squares"])

    @property
    def sum_squared_residual(self) -> float:
        """Sum of the squared distances of reconstructions and inputs so far."""
        return float(self._sums["residuals"])

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return self._count("samples")

    def compute(self) -> float:
        """Of the samples so far."""
        samples = self.num_samples
        if samples == 0:
            return 0.0
        error = self.sum_squared_residual / samples
        mean = self._sums["x"] / samples
        variance = self.sum_squared_norm / samples - float(mean.square().sum())
        if variance < _NOTHING:
            return 1.0 if error < _NOTHING else 0.0
        return 1.0 - error / variance
