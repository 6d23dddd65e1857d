"""All calculators of an evaluation together, and the standard errors of what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from synthkern.evaluation.calculator import Calculator
from synthkern.evaluation.classification import ClassificationMetricsCalculator
from synthkern.evaluation.dead_latents import DeadLatentsCalculator
from synthkern.evaluation.explained_variance import ExplainedVarianceCalculator
from synthkern.evaluation.l0 import L0Calculator
from synthkern.evaluation.shrinkage import ShrinkageCalculator
from synthkern.sparse import SparseActivations


class Figures:
    """Every figure that samples decide, of some samples.

    Args:
        best_matches: [M] int64, the feature of each latent.
        num_features: N.
    """

    def __init__(self, best_matches: torch.Tensor, num_features: int) -> None:
        self.calculators: dict[str, Calculator[Any]] = {
            "true_l0": L0Calculator(),
            "sae_l0": L0Calculator(),
            "dead_latents": DeadLatentsCalculator(best_matches.numel()),
            "shrinkage": ShrinkageCalculator(),
            "explained_variance": ExplainedVarianceCalculator(),
            "classification": ClassificationMetricsCalculator.from_matches(
                best_matches, num_features
            ),
        }

    def add_batch(
        self,
        features: SparseActivations,
        latents: SparseActivations,
        hidden: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        """Add samples: features [B, N], latents [B, M], hidden activations and output [B, D]."""
        arguments: dict[str, tuple[Any, ...]] = {
            "true_l0": (features,),
            "sae_l0": (latents,),
            "dead_latents": (latents,),
            "shrinkage": (output, hidden),
            "explained_variance": (output, hidden),
            "classification": (latents, features),
        }
        for name, calculator in self.calculators.items():
            calculator.add_batch(*arguments[name])  # type: ignore[attr-defined]

    def plus(self, other: Figures, times: int = 1) -> Figures:
        """Those of this one's samples and the other's; with -1, of these without those."""
        result = object.__new__(Figures)
        result.calculators = {
            name: own.plus(other.calculators[name], times) for name, own in self.calculators.items()
        }
        return result

    def compute(self) -> dict[str, Any]:
        """By the names of the result's attributes."""
        return {name: calculator.compute() for name, calculator in self.calculators.items()}

    def per_latent(self) -> dict[str, torch.Tensor]:
        """See :meth:`ClassificationMetricsCalculator.per_latent`."""
        classification = self.calculators["classification"]
        assert isinstance(classification, ClassificationMetricsCalculator)
        return classification.per_latent()


def standard_errors(
    whole: Figures, groups: Sequence[Figures]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Of the figures, by their names in a log, and of the numbers per latent: by the jackknife.

    Of G groups of samples, with t_g the figure without group g, the square of the error is
    ``(G - 1) / G * sum_g (t_g - mean t)**2``.
    """
    spreads: dict[str, _Spread] = {}
    for group in groups:
        without = whole.plus(group, -1)
        for name, value in {**_flat(without.compute()), **_columns(without)}.items():
            spreads.setdefault(name, _Spread()).add(value)
    errors = {name: spread.jackknife() for name, spread in spreads.items()}
    flat = {name: float(errors[name]) for name in _flat(whole.compute()) if name in errors}
    return flat, {
        name.removeprefix(_COLUMN): errors[name] for name in _columns(whole) if name in errors
    }


_COLUMN = "per latent: "


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    metrics = vars(figures["classification"])
    flat = {name: value for name, value in figures.items() if name != "classification"}
    return flat | {f"classification/{name}": value for name, value in metrics.items()}


def _columns(figures: Figures) -> dict[str, Any]:
    return {_COLUMN + name: column.numpy() for name, column in figures.per_latent().items()}


class _Spread:
    """Squares of deviations from a running mean (Welford): no value is kept."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, value: Any) -> None:
        self.count += 1
        off = value - self.mean
        self.mean = self.mean + off / self.count
        self.squares = self.squares + off * (value - self.mean)

    def jackknife(self) -> Any:
        if self.count < 2:
            return np.full_like(self.mean, np.nan, dtype=np.float64)
        return np.sqrt(self.squares * (self.count - 1) / self.count)
