"""The rates at which features really fire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from synthkern import engine
from synthkern._checks import as_int, as_seed
from synthkern.model.activation_generator import (
    ActivationGenerator,
    as_activations,
    as_entries,
    without_sequences,
)
from synthkern.model.ownership import draw_from, has_positions, sampler_of
from synthkern.model.rates.copula import (
    Loadings,
    are_clipped_together,
    chance_above_zero,
    draw_factors,
    num_factors,
    resolution,
)
from synthkern.model.rates.gating import Gating
from synthkern.plan import Forest, Plan

#: Scrambled sequences of factors, whose scatter gives the standard errors.
_REPLICATES = 8

_FACTOR_DRAWS = 2**14
#: What so many draws carry, replicates do not lack alike.
_FEW = 1000

#: What float32 leaves of a gated probability, relative to it.
_ROUNDING = 1e-6

#: In place of zero in a divisor.
_TINY = 1e-300

_SAMPLES = 2**18
_BATCH = 2**13


@dataclass(frozen=True)
class EffectiveFiringProbabilities:
    """How often features are above zero in a world's samples; those of manifolds, not zero.

    Attributes:
        probabilities: [N] float64.
        standard_errors: [N] float64, of the Monte Carlo; 0 where a probability is exact. Under a
            copula at least what the stream's resolution leaves: 2**-33 and 1e-6 times the normal
            density at the threshold.
        method: "closed form"; "Monte Carlo over factors", of exact probabilities given the
            factors of a copula; or "Monte Carlo over samples", which are counted.
        num_samples: draws of factors, or samples; 0 for the closed form.

    Example:
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> modifier = synthetic.hierarchy_modifier(tree)
        >>> generator = synthetic.ActivationGenerator(2, 0.5, modify_activations=modifier)
        >>> rates = synthetic.effective_firing_probabilities(generator)
        >>> rates.l0, rates.method
        (0.75, 'closed form')
    """

    probabilities: torch.Tensor
    standard_errors: torch.Tensor
    method: str
    num_samples: int

    @property
    def l0(self) -> float:
        """Mean number of features above zero in a sample."""
        return float(self.probabilities.sum())


def effective_firing_probabilities(
    model: Any, *, num_samples: int | None = None, seed: int = 0, show_progress: bool = False
) -> EffectiveFiringProbabilities:
    """The rates that a world really has, after gating, exclusion and clipping at zero. All features
    of a manifold have the rate of its leader.

    Where features fire independently it is a closed form, from the top of every tree down; a
    group's survivors follow from the Poisson-binomial law of its members. Under a low-rank
    copula that form holds given the factors, and its mean over random factors is taken (features
    that nothing gates and no sibling excludes need no draws). What forests take that share features
    with an earlier one is counted, in samples that are drawn with them and without them. Otherwise
    (a full correlation matrix, modifiers that are not hierarchies) all is counted.

    Args:
        model: a SyntheticModel or a generator, anybody's too, whose samples are then counted.
        num_samples: draws of the Monte Carlo, at least 16; None takes 16,384 draws of factors or
            262,144 samples.
        seed: of the Monte Carlo, in [0, 2**64); unused where a generator of the user's takes none.
        show_progress: whether to show a bar.

    Example:
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> modifier = synthetic.hierarchy_modifier(tree)
        >>> generator = synthetic.ActivationGenerator(2, 0.5, modify_activations=modifier)
        >>> synthetic.effective_firing_probabilities(generator).probabilities
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    # Positions of sequences would be fewer samples than they are.
    generator = without_sequences(getattr(model, "activation_generator", model))
    sampler_of("model", generator)
    if num_samples is not None:
        num_samples = as_int("num_samples", num_samples, low=16)
    seed = as_seed("seed", seed)
    count = num_samples or _SAMPLES
    if not isinstance(generator, ActivationGenerator) or not generator.is_fused:
        return _counted(generator, count, seed, show_progress)
    plan = generator.plan.to("cpu")
    if plan.triangular:
        return _counted(generator, count, seed, show_progress)
    magnitudes = plan.without_manifolds()
    first = replace(magnitudes, forests=disjoint_forests(plan.forests))
    rates = rates_of(first, num_samples or _FACTOR_DRAWS, seed, show_progress)
    if len(first.forests) < len(plan.forests):
        rates = _less_lost(rates, first, magnitudes, count, seed, show_progress)
    if plan.manifolds is None:
        return rates
    of = plan.manifolds.leader_of()
    return replace(
        rates,
        probabilities=rates.probabilities[of],
        standard_errors=rates.standard_errors[of],
    )


def rates_of(
    plan: Plan, draws: int, seed: int, show_progress: bool
) -> EffectiveFiringProbabilities:
    """Rates of a plan on the CPU, low-rank or independent, whose forests share no feature."""
    # What the stream does: without a copula probabilities are multiples of 2**-40.
    base = plan.probability.double() if plan.rank else plan.fire_below.double() / 2.0**40
    probabilities = Loadings(plan, torch.arange(plan.num_features, device="cpu")).marginal(base)
    errors = torch.zeros_like(probabilities)
    rank = num_factors(plan)
    if not rank:
        only = draw_factors(0, 0, seed)
        for forest in plan.forests:
            features = forest.feature.long()
            probabilities[features] = ForestRates(plan, forest).mean(base[features], only)
        return EffectiveFiringProbabilities(probabilities, errors, "closed form", 0)
    if plan.rank:
        errors = resolution(base)
    if are_clipped_together(plan):
        errors = errors + resolution(chance_above_zero(plan))
    each = max(2, draws // _REPLICATES)
    with tqdm(
        total=_REPLICATES * len(plan.forests), unit=" replicates", disable=not show_progress
    ) as progress:
        for forest in plan.forests:
            features, rates = forest.feature.long(), ForestRates(plan, forest)
            sums = []
            for replicate in range(_REPLICATES):
                factors = draw_factors(rank, each, (seed * _REPLICATES + replicate) % 2**63)
                sums.append(rates.sums(base[features], factors))
                progress.update()
            probabilities[features], errors[features] = rates.estimate(
                base[features], errors[features], torch.stack(sums)
            )
    return EffectiveFiringProbabilities(
        probabilities, errors, "Monte Carlo over factors", each * _REPLICATES
    )


class ForestRates:
    """Effective rates of a forest's nodes as a function of their base probabilities."""

    def __init__(self, plan: Plan, forest: Forest) -> None:
        self.loadings = Loadings(plan, forest.feature.long())
        self.gating = Gating(forest)
        self._forest = forest
        self._free = (forest.parent < 0) & (forest.group < 0)

    def mean(self, probability: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Rates [K] float64 from base probabilities [K], by draws of factors [rank, M]."""
        share, reference, _ = self._shares(self.sums(probability, factors))
        return share * self.loadings.marginal(probability)[reference]

    def sums(self, probability: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Over the draws, [4, K]: own activity and what gating leaves of it, then their squares."""
        total = torch.zeros(4, len(probability), dtype=torch.float64, device="cpu")
        for own in self.loadings.own_activity(probability, factors):
            for place, part in enumerate((own, self.gating.active(own))):
                total[place] += part.sum(dim=1, dtype=torch.float64)
                norm = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
                total[place + 2] += norm.square()
        return total

    def estimate(
        self, probability: torch.Tensor, resolution: torch.Tensor, replicates: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rates [K] and their standard errors [K], from the sums [R, 4, K] of R replicates.

        Beside the replicates' scatter an error holds what the draws do not resolve, which all
        replicates lack alike: of the reference, of the rate itself, and of exclusive siblings.
        """
        total = replicates.sum(dim=0)
        share, reference, draws = self._shares(total)
        marginal = self.loadings.marginal(probability)
        rate, most = share * marginal[reference], marginal[reference]
        residual = replicates[:, 1] - share * replicates[:, 0, reference]
        scatter = residual.std(dim=0) * len(replicates) ** 0.5 / (total[0, reference] + _TINY)
        # As if counted, with half a count more: what few draws agree on is not certain.
        guess = (share * draws[0, reference] + 0.5) / (draws[0, reference] + 1)
        unresolved = _unresolved(draws)
        counted = (guess * (1 - guess)).sqrt() * unresolved[0, reference]
        # A sibling takes at most half of what fires with it; one that many draws carry scatters.
        rare = torch.where(draws[0] < _FEW, marginal * unresolved[0], 0.0)
        crowd = self._forest.group_totals(rare) / 2
        crowd = torch.minimum(crowd[self.gating.least_above(-crowd)], most)
        # A step of the way that is off shifts the rate by as much, relative to it.
        relative = resolution / (marginal + _TINY)
        relative = relative[self.gating.least_above(-relative)].add(_ROUNDING)
        error = (most * scatter).hypot(most * counted).hypot(rate * unresolved[1])
        error = error.hypot(rate * relative).hypot(crowd)
        return rate, torch.where(self._free, resolution, error)

    def _shares(self, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rates as shares [K] of a marginal probability, which is known; the node that it is of;
        and how many draws carry own and gated activity, [2, K].

        A rare feature that follows the factors closely fires in few draws or none. Of a node and
        its ancestors the one of fewest draws is the reference, and the draws only say how the
        others act where it fires. A half stands for what no draw tells.
        """
        draws = (sums[:2].square() / (sums[2:] + _TINY)).clamp(min=1)
        reference = self.gating.least_above(draws[0])
        share = (sums[1] + _TINY / 2) / (sums[0, reference] + _TINY)
        return torch.where(self._free, 1.0, share), reference, draws


def _unresolved(draws: torch.Tensor) -> torch.Tensor:
    """The relative error of a sum that so many draws carry: 1 / sqrt(draws) of few, as of
    independent ones; of many less, since a sequence's error falls faster.
    """
    return draws.rsqrt() / (1 + draws / 100)


def _counted(
    generator: Any, count: int, seed: int, show_progress: bool
) -> EffectiveFiringProbabilities:
    fired: torch.Tensor | None = None
    positions = has_positions(sampler_of("model", generator))
    # All else is above zero there.
    signed = isinstance(generator, ActivationGenerator) and generator.manifolds is not None
    with tqdm(total=count, unit=" samples", unit_scale=True, disable=not show_progress) as progress:
        for start in range(0, count, _BATCH):
            size = min(_BATCH, count - start)
            place = (seed, start) if positions else (None, 0)
            if isinstance(generator, ActivationGenerator):
                drawn = generator.sample_sparse(size, seed=place[0], start=place[1])
            else:
                given = draw_from("model", generator, size, *place)
                width = given.shape[-1] if hasattr(given, "shape") else 0
                drawn = as_entries(as_activations("model", given, size, width))
            indices = drawn.indices[drawn.values != 0 if signed else drawn.values > 0].long().cpu()
            counts = torch.bincount(indices, minlength=drawn.num_features).double()
            fired = counts if fired is None else fired + counts
            progress.update(size)
    assert fired is not None
    # Half a count more, so that what never fired is not taken for certain.
    guess = (fired + 0.5) / (count + 1)
    errors = (guess * (1 - guess) / count).sqrt()
    return EffectiveFiringProbabilities(fired / count, errors, "Monte Carlo over samples", count)


def _less_lost(
    rates: EffectiveFiringProbabilities,
    first: Plan,
    plan: Plan,
    count: int,
    seed: int,
    show_progress: bool,
) -> EffectiveFiringProbabilities:
    """Rates of a plan with more forests than those that the rates are of.

    The same samples are drawn with them and without: what is lost is counted itself, which is far
    less uncertain than the difference of two rates.
    """
    lost = torch.zeros(plan.num_features, dtype=torch.float64, device="cpu")
    with tqdm(total=count, unit=" samples", unit_scale=True, disable=not show_progress) as progress:
        for start in range(0, count, _BATCH):
            size = min(_BATCH, count - start)
            for each, sign in ((first, 1), (plan, -1)):
                drawn = engine.sample(each, seed=seed, start=start, count=size).features
                assert drawn is not None
                indices = drawn.indices[drawn.values > 0].long()
                lost += sign * torch.bincount(indices, minlength=len(lost)).double()
            progress.update(size)
    guess = (lost + 0.5) / (count + 1)
    # What no later forest has a place for is as it was.
    placed = torch.zeros(len(lost), dtype=torch.bool, device="cpu")
    for forest in plan.forests[len(first.forests) :]:
        placed[forest.feature.long()] = True
    counted = torch.where(placed, (guess * (1 - guess) / count).sqrt(), 0.0)
    return EffectiveFiringProbabilities(
        (rates.probabilities - lost / count).clamp(min=0),
        rates.standard_errors.hypot(counted),
        "Monte Carlo over samples",
        count,
    )


def disjoint_forests(forests: Sequence[Forest]) -> tuple[Forest, ...]:
    """The first forests, as far as no feature is in two, so that they are as good as one."""
    placed = set[int]()
    for number, forest in enumerate(forests):
        features = forest.feature.tolist()
        if not placed.isdisjoint(features):
            return tuple(forests[:number])
        placed.update(features)
    return tuple(forests)
