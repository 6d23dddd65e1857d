"""The rates at which features really fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from synthkern._checks import as_int, as_seed
from synthkern.model.activation_generator import ActivationGenerator, as_activations, as_entries
from synthkern.model.ownership import draw_from, has_positions, sampler_of
from synthkern.model.rates.copula import Loadings, chance_above_zero, draw_factors, resolution
from synthkern.model.rates.gating import Gating
from synthkern.plan import Forest, Plan

#: Scrambled sequences of factors, whose scatter gives the standard errors.
_REPLICATES = 8

_FACTOR_DRAWS = 2**14
_SAMPLES = 2**18
_BATCH = 2**13


@dataclass(frozen=True)
class EffectiveFiringProbabilities:
    """How often features are above zero in a world's samples.

    Attributes:
        probabilities: [N] float64.
        standard_errors: [N] float64, of the Monte Carlo; 0 where a probability is exact. Under a
            copula at least what the stream's resolution leaves: 2**-33 and 1e-6 times the normal
            density at the threshold.
        method: "closed form"; "Monte Carlo over factors", of exact probabilities given the
            factors of a copula; or "Monte Carlo over samples", which are counted.
        num_samples: draws of factors, or samples; 0 for the closed form.
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
    model: Any,
    *,
    num_samples: int | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> EffectiveFiringProbabilities:
    """The rates that a world really has, after gating, exclusion and clipping at zero.

    Where features fire independently it is a closed form, from the top of every tree down; a
    group's survivors follow from the Poisson-binomial law of its members. Under a low-rank
    copula that form holds given the factors, and its mean over random factors is taken (features
    that nothing gates and no sibling excludes need no draws). Otherwise (a full correlation matrix,
    forests that share features, modifiers that are not hierarchies) samples are drawn and
    counted.

    Args:
        model: a SyntheticModel or a generator, anybody's too, whose samples are then counted.
        num_samples: draws of the Monte Carlo, at least 16; None takes 16,384 draws of factors or
            262,144 samples.
        seed: of the Monte Carlo, in [0, 2**64); unused where a generator of the user's takes none.
        show_progress: whether to show a bar.
    """
    generator = getattr(model, "activation_generator", model)
    sampler_of("model", generator)
    if num_samples is not None:
        num_samples = as_int("num_samples", num_samples, low=16)
    seed = as_seed("seed", seed)
    count = num_samples or _SAMPLES
    if not isinstance(generator, ActivationGenerator) or not generator.is_fused:
        return _counted(generator, count, seed, show_progress)
    plan = generator.plan.to("cpu")
    if plan.triangular or not _disjoint(plan):
        return _counted(generator, count, seed, show_progress)
    return rates_of(plan, num_samples or _FACTOR_DRAWS, seed, show_progress)


def rates_of(
    plan: Plan, draws: int, seed: int, show_progress: bool
) -> EffectiveFiringProbabilities:
    """Rates of a plan on the CPU, low-rank or independent, whose forests share no feature."""
    # What the stream does: without a copula probabilities are multiples of 2**-40.
    base = plan.probability.double() if plan.rank else plan.fire_below.double() / 2.0**40
    probabilities = base * chance_above_zero(plan.mean, plan.std)
    errors = torch.zeros_like(probabilities)
    if not plan.rank:
        only = draw_factors(0, 0, seed)
        for forest in plan.forests:
            features = forest.feature.long()
            probabilities[features] = ForestRates(plan, forest).mean(base[features], only)
        return EffectiveFiringProbabilities(probabilities, errors, "closed form", 0)
    # A rate that is gated besides is off by less: each step of the way is a probability.
    errors = resolution(base)
    each = max(2, draws // _REPLICATES)
    with tqdm(
        total=_REPLICATES * len(plan.forests), unit=" replicates", disable=not show_progress
    ) as progress:
        for forest in plan.forests:
            features, rates = forest.feature.long(), ForestRates(plan, forest)
            means = []
            for replicate in range(_REPLICATES):
                factors = draw_factors(plan.rank, each, (seed * _REPLICATES + replicate) % 2**63)
                means.append(rates.mean(base[features], factors))
                progress.update()
            drawn = torch.stack(means)
            exact = (forest.parent < 0) & (forest.group < 0)
            probabilities[features] = torch.where(exact, probabilities[features], drawn.mean(dim=0))
            scatter = drawn.std(dim=0) / _REPLICATES**0.5
            errors[features] = errors[features].hypot(torch.where(exact, 0.0, scatter))
    return EffectiveFiringProbabilities(
        probabilities, errors, "Monte Carlo over factors", each * _REPLICATES
    )


class ForestRates:
    """Effective rates of a forest's nodes as a function of their base probabilities."""

    def __init__(self, plan: Plan, forest: Forest) -> None:
        self.loadings = Loadings(plan, forest.feature.long())
        self.gating = Gating(forest)

    def mean(self, probability: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Mean rates [K] float64 from base probabilities [K], over draws of factors [rank, M]."""
        total = torch.zeros_like(probability)
        for own in self.loadings.own_activity(probability, factors):
            total += self.gating.active(own).sum(dim=1, dtype=torch.float64)
        return total / factors.shape[1]


def _counted(
    generator: Any, count: int, seed: int, show_progress: bool
) -> EffectiveFiringProbabilities:
    fired: torch.Tensor | None = None
    positions = has_positions(sampler_of("model", generator))
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
            indices = drawn.indices[drawn.values > 0].long().cpu()
            counts = torch.bincount(indices, minlength=drawn.num_features).double()
            fired = counts if fired is None else fired + counts
            progress.update(size)
    assert fired is not None
    # Half a count more, so that what never fired is not taken for certain.
    guess = (fired + 0.5) / (count + 1)
    errors = (guess * (1 - guess) / count).sqrt()
    return EffectiveFiringProbabilities(fired / count, errors, "Monte Carlo over samples", count)


def _disjoint(plan: Plan) -> bool:
    """Whether no feature is in two forests, so that they are one."""
    features = torch.cat([forest.feature for forest in plan.forests] or [plan.fire_below[:0]])
    return features.unique().numel() == features.numel()
