"""All calculators of an evaluation together, and the standard errors of what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from synthkern.evaluation.calculator import Array, Calculator, Groups, Sums
from synthkern.evaluation.classification import ClassificationMetricsCalculator, means
from synthkern.evaluation.dead_latents import DeadLatentsCalculator
from synthkern.evaluation.entries import firing
from synthkern.evaluation.explained_variance import ExplainedVarianceCalculator
from synthkern.evaluation.l0 import L0Calculator
from synthkern.evaluation.metric import Batch, Metric
from synthkern.evaluation.shrinkage import ShrinkageCalculator
from synthkern.evaluation.tree import plain
from synthkern.plan.manifolds import Manifolds
from synthkern.sparse import SparseActivations


class Measured(NamedTuple):
    """Figures of all samples and their standard errors."""

    value: Any
    error: Array | None

    def part(self, place: int) -> Measured:
        """One of several figures [...]."""
        return Measured(self.value[place], None if self.error is None else self.error[place])


class MetricSet:
    """Every figure that samples decide, of some groups of samples.

    Args:
        best_matches: [M] int64, the feature of each latent.
        num_features: N.
        groups: number of groups.
        metrics: those that have fields of the result of their own.
        manifolds: of the features; or None.
    """

    def __init__(
        self,
        best_matches: torch.Tensor,
        num_features: int,
        groups: int,
        metrics: Sequence[Metric] = (),
        manifolds: Manifolds | None = None,
    ) -> None:
        self._metrics, self._manifolds = metrics, manifolds
        self._true_l0, self._sae_l0 = L0Calculator(), L0Calculator()
        self._shrinkage, self._explained = ShrinkageCalculator(), ExplainedVarianceCalculator()
        self._detection = ClassificationMetricsCalculator.from_matches(best_matches, num_features)
        for calculator in self._calculators:
            calculator.keep_apart(groups)

    @property
    def _calculators(self) -> tuple[Calculator[Any], ...]:
        return self._true_l0, self._sae_l0, self._shrinkage, self._explained, self._detection

    def add_batch(
        self,
        features: SparseActivations,
        latents: SparseActivations,
        hidden: torch.Tensor,
        output: torch.Tensor,
        groups: Groups,
    ) -> None:
        """Add samples: features [B, N], latents [B, M], hidden activations and output [B, D].

        Of the entries none is zero.
        """
        self._true_l0.add_entries(features, groups)
        self._sae_l0.add_entries(latents, groups)
        self._shrinkage.add_rows(output, hidden, groups)
        self._explained.add_rows(output, hidden, groups)
        fires = firing(features, self._manifolds)
        self._detection.add_entries(latents, fires, groups)
        for metric in self._metrics:
            metric.add_batch(Batch(fires, latents, hidden, output, groups, features))

    def compute(self) -> tuple[dict[str, Measured], dict[str, Measured], dict[str, Any]]:
        """Figures by their names in a log, numbers [M] per latent, float64, and the metrics' fields
        with Measured numbers for leaves.

        Errors are the jackknife's. Of G groups of samples, with t_g the figure without group g,
        the square of the error is ``(G - 1) / G * sum_g (t_g - mean t)**2``; NaN of a single one,
        and there are none without samples.
        """
        figures, columns = _follow(*(each.left_out() for each in self._calculators))
        together = _measured(np.stack(list(figures.values()), axis=-1))
        return (
            {name: together.part(place) for place, name in enumerate(figures)},
            {name: _measured(column) for name, column in columns.items()},
            {
                name: plain(tree, _leaf)
                for metric in self._metrics
                for name, tree in metric.figures(columns).items()
            },
        )


def _follow(
    true_l0: Sums, sae_l0: Sums, shrinkage: Sums, explained: Sums, detection: Sums
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Figures [...] and numbers [..., M] per latent that follow from the calculators' sums."""
    columns = ClassificationMetricsCalculator.columns(detection)
    metrics = means(columns)
    figures = {
        "true_l0": L0Calculator.figure(true_l0),
        "sae_l0": L0Calculator.figure(sae_l0),
        "dead_latents": DeadLatentsCalculator.figure(detection),
        "shrinkage": ShrinkageCalculator.figure(shrinkage),
        "explained_variance": ExplainedVarianceCalculator.figure(explained),
        **{f"classification/{name}": value for name, value in metrics.items()},
    }
    return figures, columns


def _leaf(figure: Any) -> Measured:
    """A metric's figure; that of no sample is a number."""
    return _measured(figure) if isinstance(figure, np.ndarray) else Measured(figure, None)


def _measured(left_out: Array) -> Measured:
    """Of figures [G + 1, ...] without each group and of all."""
    without, value = left_out[:-1], left_out[-1]
    groups = len(without)
    if groups == 0:
        return Measured(value, None)
    if groups == 1:
        return Measured(value, np.full_like(value, np.nan))
    squares = np.square(without - without.mean(axis=0)).sum(axis=0)
    return Measured(value, np.sqrt(squares * ((groups - 1) / groups)))
