"""Base probabilities that give requested rates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from synthkern._checks import as_bool, as_seed, as_vector
from synthkern._warnings import warn
from synthkern.model.hierarchy import Hierarchy
from synthkern.model.rates.copula import chance_above_zero, draw_factors, num_factors
from synthkern.model.rates.effective import EffectiveFiringProbabilities, ForestRates, rates_of
from synthkern.model.rates.gating import Gating, elasticities
from synthkern.plan import Forest, Plan, compile_plan, largest_values
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.magnitude_distribution import (
    MagnitudeDistribution,
    as_magnitude_distribution,
)

#: What exclusive siblings may take of their parent's rate: all of it would need a sibling that
#: always fires.
_GREATEST_SHARE = 0.999

#: Draws of factors while far from the solution, and at the end.
_COARSE_DRAWS, _FINE_DRAWS = 2**11, 2**15
_CHECK_DRAWS = 2**16

#: Passes end where all rates but one in a thousand are this near to their targets, relative to
#: them, and after that many in any case: under SynthSAEBench-16k's copula errors fall fivefold a
#: pass, and a pass over its fine draws takes seconds.
_NEAR = 2e-3
_STRAGGLERS = 1e-3
_MOST_PASSES = {_COARSE_DRAWS: 12, _FINE_DRAWS: 5, 1: 30}

#: Larger groups take half a step without derivatives: their members hardly touch each other.
_LARGEST_SOLVED = 512
_DAMPING = 0.3

#: In place of zero in a divisor.
_TINY = 1e-300

#: What counts as reached, beside three standard errors.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Calibration:
    """Base probabilities and what they reach.

    Attributes:
        base_firing_probabilities: [N] float32.
        requested: [N] float64.
        target: [N] float64, the nearest feasible rates.
        reached: rates with these base probabilities, by draws of their own.

    Example:
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> trees = synthetic.Hierarchy([tree])
        >>> calibration = synthetic.calibrate_firing_probabilities(0.2, trees, num_features=2)
        >>> calibration.base_firing_probabilities
        tensor([0.2000, 1.0000])
        >>> calibration.reached.probabilities
        tensor([0.2000, 0.2000], dtype=torch.float64)
    """

    base_firing_probabilities: torch.Tensor
    requested: torch.Tensor
    target: torch.Tensor
    reached: EffectiveFiringProbabilities

    @property
    def missed(self) -> torch.Tensor:
        """[N] bool: the rate is off by more than 1% of the requested and 3 standard errors."""
        off = (self.reached.probabilities - self.requested).abs()
        return off > _TOLERANCE * self.requested + 3 * self.reached.standard_errors


def calibrate_firing_probabilities(
    requested: torch.Tensor | float,
    hierarchy: Hierarchy,
    num_features: int,
    std_firing_magnitudes: torch.Tensor | float = 0.0,
    mean_firing_magnitudes: torch.Tensor | float = 1.0,
    correlation_matrix: LowRankCorrelationMatrix | None = None,
    *,
    magnitude_distribution: str | MagnitudeDistribution = "normal",
    seed: int = 0,
    show_progress: bool = False,
) -> Calibration:
    """Base probabilities with which features fire as often as requested, hierarchy and all.

    Not every request can be had. From the top down, a feature's target is what is requested, but
    at most its parent's target times the probability that its own magnitude is above zero; where
    exclusive siblings then ask together for more than 99.9% of their parent's target, all of
    them are scaled down to that by the same factor (which keeps the greatest relative deviation
    in the group as small as can be). A base probability of 1 is the most that a feature gets.

    Args:
        requested: rates, a number or [N], in [0, 1].
        hierarchy: that will be applied.
        num_features: N.
        std_firing_magnitudes: a number or [N].
        mean_firing_magnitudes: a number or [N].
        correlation_matrix: low-rank, or None for independent firing.
        magnitude_distribution: as :class:`ActivationGenerator` takes it.
        seed: of the factors that rates are averaged over under a copula.
        show_progress: whether to show a bar.

    Warns:
        UserWarning: where rates are missed by more than 1% (and three standard errors); it
            counts the features and names the worst with its requested and reached rate.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> trees, wanted = synthetic.Hierarchy([tree]), torch.tensor([0.4, 0.1])
        >>> calibration = synthetic.calibrate_firing_probabilities(wanted, trees, num_features=2)
        >>> calibration.base_firing_probabilities
        tensor([0.4000, 0.2500])
    """
    as_bool("show_progress", show_progress)
    distribution = as_magnitude_distribution("magnitude_distribution", magnitude_distribution)
    seed = as_seed("seed", seed)
    wanted = as_vector("requested", requested, num_features, low=0, high=1).double()
    forests = (hierarchy.compiled(num_features),) if hierarchy.roots else ()

    def plan_of(base: torch.Tensor) -> Plan:
        correlation, parts = correlation_matrix, (mean_firing_magnitudes, std_firing_magnitudes)
        return compile_plan(
            num_features,
            base.float(),
            *parts,
            correlation,
            forests,
            magnitude_distribution=distribution,
        )

    plan = plan_of(wanted)
    largest_values(plan.mean, plan.std, forests, magnitudes=plan.magnitudes)
    above = chance_above_zero(plan)
    target = torch.minimum(wanted, above)
    base = torch.where(above > 0, target / above.clamp(min=_TINY), 0.0)
    for forest in forests:
        features = forest.feature.long()
        target[features] = _feasible(forest, wanted[features], above[features])
        base[features] = _solve(plan, forest, target[features], seed, show_progress)
    reached = rates_of(plan_of(base), _CHECK_DRAWS, (seed + 1) % 2**60, False)
    calibration = Calibration(base.float(), wanted, target, reached)
    _warn(calibration)
    return calibration


def _feasible(forest: Forest, wanted: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    """Target rates [K] of a forest's nodes; see :func:`calibrate_firing_probabilities`."""
    parent, grouped = forest.parent.long(), forest.group >= 0
    target = wanted.clone()
    for nodes in forest.levels():
        its = torch.ones_like(target[nodes]) if not nodes.start else target[parent[nodes]]
        level = torch.minimum(wanted[nodes], its * above[nodes])
        room = torch.where(grouped[nodes], _GREATEST_SHARE * its, torch.inf)
        total = forest.group_totals(level, nodes)
        target[nodes] = level * (room / total.clamp(min=_TINY)).clamp(max=1)
    return target


def _solve(
    plan: Plan, forest: Forest, target: torch.Tensor, seed: int, show_progress: bool
) -> torch.Tensor:
    """Base probabilities [K] of a forest's nodes that give target rates [K].

    Newton's method for all nodes at once, on logarithms: what a node gets of its parent's rate
    should be its target's share of the parent's. The rates come from the factors' draws, the
    derivatives from the closed form, which a copula of moderate correlations changes little.
    """
    rates = ForestRates(plan, forest)
    gating, most = rates.gating, rates.loadings.chance_above_zero
    wanted = _shares(gating, target)
    own = torch.minimum(_first_guess(wanted, forest.group_totals(wanted)), most)
    probability = torch.zeros_like(target)
    rank = num_factors(plan)
    stages = (_COARSE_DRAWS, _FINE_DRAWS) if rank else (1,)
    with tqdm(desc="calibrating", unit=" passes", disable=not show_progress) as progress:
        for draws in stages:
            factors = draw_factors(rank, draws, seed)
            for _ in range(_MOST_PASSES[draws]):
                probability = torch.where(most > 0, own / most.clamp(min=_TINY), 0.0)
                rate = rates.mean(probability, factors)
                off = (rate - target).abs() > _NEAR * target
                off &= (own < most) | (rate > target)
                number = int(off.sum())
                progress.update()
                progress.set_postfix(off=number)
                if number <= _STRAGGLERS * off.numel():
                    break
                missing = (wanted / _shares(gating, rate)).log().nan_to_num(0.0, 0.0, 0.0)
                step = _newton(gating, own, most, missing)
                own = torch.minimum(own * step.clamp(-1, 1).exp(), most)
    return probability


def _newton(
    gating: Gating, own: torch.Tensor, most: torch.Tensor, missing: torch.Tensor
) -> torch.Tensor:
    """Steps [K] of the logarithms of own activity that make up for what shares lack."""
    step = missing.clone()
    for members in gating.groups:
        if members.shape[1] > _LARGEST_SOLVED:
            step[members] *= 0.5
            continue
        lacking = missing[members]
        # A member that fires as often as it can stays where it is.
        free = ((own[members] < most[members]) | (lacking < 0)).double()
        answer = elasticities(own[members]) * (free[:, :, None] * free[:, None, :])
        # A group that already takes nearly all of its parent's rate hardly answers to its members
        # all together; the diagonal keeps that from becoming a long step.
        answer.diagonal(dim1=1, dim2=2).add_(_DAMPING + (1 - free))
        step[members] = torch.linalg.solve(answer, lacking * free)
    return step


def _first_guess(share: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Own activity [K] for shares of parents' rates, as if members were Poisson processes.

    The first event of processes with rates q is one of process j's with probability
    q_j / Q * (1 - exp(-Q)), Q the sum of them.
    """
    joint = -torch.log1p(-total.clamp(max=1 - 1e-9))
    rate = torch.where(total > 0, joint * share / total.clamp(min=_TINY), 0.0)
    return -torch.expm1(-rate)


def _shares(gating: Gating, rate: torch.Tensor) -> torch.Tensor:
    """Rates [K] over those of their parents, 0 where a parent is never active."""
    parent = gating.parent
    above = torch.where(parent >= 0, rate[parent.clamp(min=0)], 1.0)
    return torch.where(above > 0, rate / above.clamp(min=_TINY), 0.0)


def _warn(calibration: Calibration) -> None:
    missed = calibration.missed
    if not bool(missed.any()):
        return
    reached, requested = calibration.reached.probabilities, calibration.requested
    deviation = torch.where(missed, (reached / requested.clamp(min=_TINY)).log().abs(), -1.0)
    worst = int(deviation.argmax())
    warn(
        f'compensate_probabilities = "exact" cannot give {int(missed.sum())} of {missed.numel()} '
        "features the requested rates (a feature is rarer than its parent, and exclusive "
        "siblings together are); they get the nearest that can be had. The worst is feature "
        f"{worst}: requested {float(requested[worst]):.4g}, reached {float(reached[worst]):.4g}",
        stacklevel=3,
    )
