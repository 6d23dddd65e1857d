"""How long features really stay active along sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_int, as_seed
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.rates.effective import disjoint_forests, effective_firing_probabilities
from synthkern.model.sequences import length_of
from synthkern.plan import Plan
from synthkern.sparse import SparseActivations

#: Groups of sequences, whose scatter gives the standard errors.
_GROUPS = 16

_SAMPLES = 2**15
#: Pairs of positions that are looked at of one sequence, at most.
_PAIRS = 64


@dataclass(frozen=True)
class EffectiveAutocorrelations:
    """Autocorrelations of whether features are above zero; see :func:`effective_autocorrelations`.

    Attributes:
        lag: positions between the two.
        autocorrelations: [N] float64, NaN where a feature always fires, never does, or did not in
            what was drawn.
        standard_errors: [N] float64, of the Monte Carlo, by the jackknife; 0 for the closed form.
        method: "closed form" or "Monte Carlo over sequences".
        num_samples: positions drawn; 0 for the closed form.
        rates: [N] effective firing probabilities.
        groups: [G, 2, N] float64, of each group of sequences that was drawn how often a feature
            fired and how often it did so again; of the closed form, G = 1, the probabilities.

    Example:
        >>> import synthkern as synthetic
        >>> sequence = synthetic.SequenceConfig(length=8, feature_persistence=0.75)
        >>> generator = synthetic.ActivationGenerator(2, 0.5, sequence=sequence)
        >>> synthetic.effective_autocorrelations(generator).autocorrelations
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """

    lag: int
    autocorrelations: torch.Tensor
    standard_errors: torch.Tensor
    method: str
    num_samples: int
    rates: torch.Tensor
    groups: torch.Tensor

    def of_features(self, chosen: torch.Tensor) -> tuple[float, float]:
        """The sum of some features' autocovariances over that of their variances, and its error.

        Args:
            chosen: [N] bool.
        """
        rates = self.rates[chosen]
        fires, again = self.groups[:, :, chosen].sum(dim=2).unbind(1)
        value, error = _with_error(fires, again, rates.sum(), rates.square().sum())
        return float(value), float(error)


def effective_autocorrelations(
    model: Any, lag: int = 1, *, num_samples: int | None = None, seed: int = 0
) -> EffectiveAutocorrelations:
    """The autocorrelation, along sequences, of whether each feature is above zero.

    Where features fire independently and no group is exclusive it is a closed form: a feature
    that fires with probability q once its parent does, and persists with rho, is active at both of
    two positions with the probability that its parent is, times
    ``rho**lag * q + (1 - rho**lag) * q**2``. Otherwise sequences are drawn and counted.

    Args:
        model: a SyntheticModel or an ActivationGenerator whose samples are positions of sequences.
        lag: positions apart, in [1, T - 1].
        num_samples: positions that are drawn, about; None for 32,768.
        seed: of what is drawn.

    Raises:
        ValueError: without a SequenceConfig, or for a lag out of range.

    Example:
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> generator = synthetic.ActivationGenerator(
        ...     2,
        ...     0.5,
        ...     modify_activations=synthetic.hierarchy_modifier(tree),
        ...     sequence=synthetic.SequenceConfig(length=8, feature_persistence=[0.9, 0.5]),
        ... )
        >>> synthetic.effective_autocorrelations(generator).autocorrelations
        tensor([0.9000, 0.6167], dtype=torch.float64)
    """
    generator = getattr(model, "activation_generator", model)
    length = length_of("model", generator)
    lag = as_int("lag", lag, low=1, high=length - 1)
    if num_samples is not None:
        num_samples = as_int("num_samples", num_samples, low=_GROUPS)
    seed = as_seed("seed", seed)
    plan = generator.plan.to("cpu")
    rates = effective_firing_probabilities(generator, seed=seed).probabilities
    is_exclusive = any(bool((forest.group >= 0).any()) for forest in plan.forests)
    is_one = len(disjoint_forests(plan.forests)) == len(plan.forests)
    if generator.is_fused and plan.rank == 0 and is_one and not is_exclusive:
        groups = torch.stack([rates, _both(plan, rates, lag)]).unsqueeze(0)
        method, drawn = "closed form", 0
    else:
        groups, drawn = _count(generator, lag, length, num_samples or _SAMPLES, seed)
        method = "Monte Carlo over sequences"
    values, errors = _with_error(groups[:, 0], groups[:, 1], rates, rates.square())
    return EffectiveAutocorrelations(lag, values, errors, method, drawn, rates, groups)


def _both(plan: Plan, rates: torch.Tensor, lag: int) -> torch.Tensor:
    """The probabilities [N] that features are active at two positions."""
    assert plan.sequence is not None
    held = plan.sequence.feature_persistence**lag

    def own(rate: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return held[features] * rate + (1 - held[features]) * rate.square()

    both = own(rates, torch.arange(rates.numel(), device="cpu"))
    for forest in plan.forests:
        for level in forest.levels()[1:]:
            features = forest.feature[level].long()
            parents = forest.feature[forest.parent[level].long()].long()
            # 0 / 0 where a parent never fires.
            rate = (rates[features] / rates[parents]).nan_to_num(0)
            both[features] = both[parents] * own(rate, features)
    return both


def _count(
    generator: ActivationGenerator, lag: int, length: int, num_samples: int, seed: int
) -> tuple[torch.Tensor, int]:
    """How often features fire, and fire again: [groups, 2, N]; and how many samples were drawn."""
    positions = min(length, lag + _PAIRS)
    each = max(1, num_samples // (positions * _GROUPS))
    found = []
    for group in range(_GROUPS):
        sequences = range(group * each, (group + 1) * each)
        found.append(_fires_again(_draw(generator, sequences, positions, length, seed),
                                  lag, positions))  # fmt: skip
    return torch.stack(found), _GROUPS * each * positions


def _draw(
    generator: ActivationGenerator, sequences: Sequence[int], positions: int, length: int, seed: int
) -> SparseActivations:
    """The first positions of sequences."""
    if positions == length:
        count = len(sequences) * length
        return generator.sample_sparse(count, seed=seed, start=sequences[0] * length).to("cpu")
    parts = [
        generator.sample_sparse(positions, seed=seed, start=number * length) for number in sequences
    ]
    return SparseActivations.cat(parts).to("cpu")


def _fires_again(drawn: SparseActivations, lag: int, positions: int) -> torch.Tensor:
    """How often features fire with a position ``lag`` later, and how often there too: [2, N]."""
    n = drawn.num_features
    row, feature = drawn.row_indices(), drawn.indices.long()
    number = row * n + feature  # ascending
    first = row % positions < positions - lag
    later = number[first] + lag * n
    place = torch.searchsorted(number, later).clamp(max=max(0, number.numel() - 1))
    again = number[place] == later
    fires = torch.bincount(feature[first], minlength=n)
    return torch.stack([fires, torch.bincount(feature[first][again], minlength=n)]).double()


def _with_error(
    fires: torch.Tensor, again: torch.Tensor, sums: torch.Tensor, squares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Autocovariances over variances, and their jackknife errors over groups [G, ...]."""

    def ratio(fires: torch.Tensor, again: torch.Tensor) -> torch.Tensor:
        return (again / fires * sums - squares) / (sums - squares)

    value = ratio(fires.sum(0), again.sum(0))
    size = len(fires)
    if size == 1:
        return value, torch.zeros_like(value)
    without = ratio(fires.sum(0) - fires, again.sum(0) - again)
    scatter = (without - without.mean(0)).square().sum(0)
    return value, (scatter * (size - 1) / size).sqrt()
