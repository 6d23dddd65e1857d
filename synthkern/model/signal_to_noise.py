"""How much hidden activations vary without their noise, and how much with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch

from synthkern.model.activation_generator import ActivationGenerator, without_sequences
from synthkern.model.draw_hidden import draw_hidden
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.hidden_noise import noise_of
from synthkern.model.ownership import has_positions, sampler_of
from synthkern.model.rates.gating import Gating
from synthkern.plan import Forest, Plan

#: Draws where there is no closed form, in groups that are far apart in the stream, so that samples
#: of two groups have nothing in common, and whose scatter gives the standard error.
_GROUPS = 64
_GROUP = 1024
_APART = 2**40

#: Numbers of a tree's recursion that are held at once.
_NUMBERS = 2**22

#: What float64 leaves of a variance that is zero, relative to the second moment.
_ROUNDING = 1e-13

#: The fields of a plan that the closed form knows; a sequence leaves the law of each of its
#: positions as it is.
_KNOWN = frozenset(
    (
        *("probability", "fire_below", "threshold", "factor", "noise_scale", "rank", "triangular"),
        *("mean", "std", "forests", "magnitudes", "sequence"),
    )
)

#: The distributions of magnitudes whose second moments normals that end at 6.34 leave as they are.
_KNOWN_MAGNITUDES = ("exponential", "lognormal")


@dataclass(frozen=True)
class SignalVariance:
    """The total variance of a world's noise-free hidden activations.

    Attributes:
        value: the trace of their covariance, the sum of the variances of D components.
        standard_error: 0 where it is exact.
        method: "closed form", or "Monte Carlo over samples".
        num_samples: 0 for the closed form.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.SignalVariance(2.5, 0.01, "Monte Carlo over samples", 65536).value
        2.5
    """

    value: float
    standard_error: float
    method: str
    num_samples: int


def signal_variance(model: Any) -> SignalVariance:
    """The total variance of noise-free hidden activations: the trace of their covariance.

    Where features fire independently, alone or in trees, a closed form. Alone a feature of vector v
    that fires with probability p and has the value r then adds
    ``(p E[r**2] - (p E[r])**2) |v|**2``, with E of a normal clipped at 0, or of an exponential or
    lognormal magnitude. In a tree what is below an active feature adds up, given that feature,
    independently of other families, and of an exclusive family one member counts: the means and
    second moments of these sums follow from the leaves up, component by component.

    Otherwise (a copula, correlated or Pareto magnitudes, manifolds, forbidden pairs, parts of the
    user's) 65,536 fixed samples are drawn, and their scatter gives the standard error.

    Args:
        model: a SyntheticModel, or anything with a ``feature_dict`` and an
            ``activation_generator``.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=2, hidden_dim=2)
        >>> dictionary = synthetic.FeatureDictionary.from_vectors(torch.eye(2), torch.zeros(2))
        >>> generator = synthetic.ActivationGenerator(2, 0.5, mean_firing_magnitudes=2.0)
        >>> model = synthetic.SyntheticModel(cfg, dictionary, generator)
        >>> synthetic.signal_variance(model)
        SignalVariance(value=2.0, standard_error=0.0, method='closed form', num_samples=0)
    """
    generator, dictionary = model.activation_generator, model.feature_dict
    if (
        isinstance(generator, ActivationGenerator)
        and generator.is_fused
        and isinstance(dictionary, FeatureDictionary)
        and dictionary.is_own
        and _is_known(generator.plan)
    ):
        vectors = dictionary.feature_vectors.detach().cpu()
        value = _closed_form(generator.plan.to("cpu"), vectors)
        return SignalVariance(value, 0.0, "closed form", 0)
    return _sampled(without_sequences(generator), dictionary)


def _is_known(plan: Plan) -> bool:
    """Whether features fire independently but for trees that share none, with known moments."""
    beyond = [getattr(plan, f.name) for f in fields(plan) if f.name not in _KNOWN]
    nodes = torch.cat([forest.feature for forest in plan.forests] or [plan.fire_below[:0]])
    is_disjoint = nodes.unique().numel() == nodes.numel()
    law = plan.magnitudes
    has_moments = law is None or (law.shared == 0 and law.name in _KNOWN_MAGNITUDES)
    return not plan.rank and is_disjoint and has_moments and all(part is None for part in beyond)


def _closed_form(plan: Plan, vectors: torch.Tensor) -> float:
    above, first, second = _moments(plan)
    # What the stream does: probabilities are multiples of 2**-40.
    active = plan.fire_below.double() / 2.0**40 * above
    free = torch.ones(plan.num_features, dtype=torch.bool, device="cpu")
    total = 0.0
    for forest in plan.forests:
        nodes = forest.feature.long()
        if not len(nodes):
            continue
        free[nodes] = False
        kept = Gating(forest).kept(active[nodes, None])[:, 0]
        step = max(1, _NUMBERS // len(nodes))
        for part in vectors.split(step, dim=1):
            moments = first[nodes, None], second[nodes, None], kept[:, None]
            total += _tree_variance(
                forest, *moments, plan.mean[nodes].double(), part[nodes].double()
            )
    variance = active * second - (active * first).square()
    variance[variance < _ROUNDING * second] = 0.0
    lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return total + float((variance * lengths.square())[free].sum())


def _moments(plan: Plan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of magnitudes r: the probability of one above 0, and given that E[r] and E[r**2]."""
    mean, std = plan.mean.double(), plan.std.double()
    if plan.magnitudes is not None:
        deviation = plan.magnitudes.deviation.double()
        return torch.ones_like(mean), mean, mean.square() + deviation.square()
    certain = torch.where(mean > 0, torch.inf, -torch.inf)  # without deviation
    place = torch.where(std > 0, mean / torch.where(std > 0, std, 1.0), certain)
    above = torch.special.ndtr(place)
    density = torch.exp(-0.5 * place.square()) / math.sqrt(2 * math.pi)
    least = torch.where(above > 0, above, 1.0)
    first = (mean * above + std * density) / least
    second = ((mean.square() + std.square()) * above + mean * std * density) / least
    return above, first, second


def _tree_variance(
    forest: Forest,
    first: torch.Tensor,
    second: torch.Tensor,
    kept: torch.Tensor,
    means: torch.Tensor,
    vectors: torch.Tensor,
) -> float:
    """The variance of a forest's sum of features, added up over C components.

    Given that a node is active, and times t where its parent scales it by t, all from it on down
    adds up to ``A t + B``; what is below it to ``W s + B`` with s its value over its mean.

    Args:
        forest: of K nodes.
        first: E[r], [K, 1], of a node's own value r where it is active.
        second: E[r**2], [K, 1].
        kept: [K, 1], probabilities that nodes are active given that their parents are.
        means: mean magnitudes [K], by which the values that scale are divided.
        vectors: [K, C].
    """
    roots, *lower = levels = forest.levels()
    below = vectors.new_zeros(5, levels[-1].stop - levels[-1].start, vectors.shape[1])
    for level, upper in zip(reversed(lower), reversed(levels[:-1]), strict=True):
        a, b, aa, ab, bb = _of_nodes(below, vectors[level], first[level], second[level])
        family, parent = _families(forest, level)
        q, is_scaled = kept[level], forest.scaled[level].bool()
        mean = torch.where(is_scaled, means[forest.parent[level].long()], 1.0)[:, None]
        scaled = is_scaled[:, None]
        w, b, ww, wb, bb = _by_family(
            family,
            torch.where(scaled, q * a / mean, 0.0),
            q * torch.where(scaled, b, a + b),
            torch.where(scaled, q * aa / mean.square(), 0.0),
            torch.where(scaled, q * ab / mean, 0.0),
            q * torch.where(scaled, bb, aa + 2 * ab + bb),
        )
        # Families are independent given their parent: covariances add up.
        moments = torch.stack([w, b, ww - w.square(), wb - w * b, bb - b.square()])
        below = moments.new_zeros(5, upper.stop - upper.start, moments.shape[2])
        below.index_add_(1, parent - upper.start, moments)
        w, b = below[:2]
        below[2:] += torch.stack([w.square(), w * b, b.square()])
    a, b, aa, ab, bb = _of_nodes(below, vectors[roots], first[roots], second[roots])
    family, _ = _families(forest, roots)
    x, xx = _by_family(family, kept[roots] * (a + b), kept[roots] * (aa + 2 * ab + bb))
    variance = xx - x.square()
    return float(variance[variance > _ROUNDING * xx].sum())


def _of_nodes(
    below: torch.Tensor, v: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """The means of A and B, and E[A**2], E[A B] and E[B**2], of nodes that are active.

    Args:
        below: the same of W and B [5, k, C].
        v: their vectors [k, C].
        first: E[r] [k, 1].
        second: E[r**2] [k, 1].
    """
    w, b, ww, wb, bb = below
    a, aa = first * (v + w), second * (v.square() + 2 * v * w + ww)
    return a, b, aa, first * (v * b + wb), bb


def _families(forest: Forest, level: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """The family of each node of a level, an exclusive group or the node alone; their parents."""
    group = forest.group[level].long()
    alone = torch.arange(len(group), device="cpu") - len(group) - 1
    _, family = torch.where(group < 0, alone, group).unique(return_inverse=True)
    parent = torch.zeros(int(family.max()) + 1, dtype=torch.int64, device="cpu")
    return family, parent.scatter_(0, family, forest.parent[level].long())


def _by_family(family: torch.Tensor, *moments: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Sums [F, C] of members' moments [k, C]."""
    count = int(family.max()) + 1
    return tuple(
        each.new_zeros(count, each.shape[1]).index_add_(0, family, each) for each in moments
    )


def _sampled(generator: Any, dictionary: Any) -> SignalVariance:
    seed = 0 if has_positions(sampler_of("activation_generator", generator)) else None
    origin: torch.Tensor | None = None
    means, squares = [], []
    for group in range(_GROUPS):
        start = 0 if seed is None else group * _APART
        hidden, _ = draw_hidden(
            generator, dictionary, _GROUP, seed, start, features=False, noise=False
        )
        if origin is None:
            origin = hidden[0].double()  # so that what never varies has no variance at all
        part = hidden.double() - origin
        means.append(part.mean(dim=0))
        squares.append(part.square().sum() / _GROUP)
    of_groups = torch.stack(means)
    mean = of_groups.mean(dim=0)
    # Of each group the mean squared distance from the mean of all.
    distance = torch.stack(squares) - 2 * of_groups @ mean + mean.square().sum()
    count = _GROUPS * _GROUP
    return SignalVariance(
        float(distance.mean()) * count / (count - 1),
        float(distance.std()) / math.sqrt(_GROUPS),
        "Monte Carlo over samples",
        count,
    )


@dataclass(frozen=True)
class NoiseDescription:
    """A world's noise in hidden activations; ``str`` of it is a line.

    Attributes:
        std: root of the noise's mean variance a component.
        rank: r, of the low-rank part of its covariance.
        total_variance: the trace of its covariance.
        signal: the total variance of the hidden activations without it.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(
        ...     num_features=16, hidden_dim=4, noise=synthetic.NoiseConfig(snr_db=3), seed=0
        ... )
        >>> round(synthetic.SyntheticModel(cfg).describe().noise.snr_db, 2)
        3.0
    """

    std: float
    rank: int
    total_variance: float
    signal: SignalVariance

    @property
    def snr_db(self) -> float:
        """10 log10 of the signal's total variance over the noise's; infinite without noise."""
        if not self.total_variance:
            return math.inf
        ratio = self.signal.value / self.total_variance
        return 10 * math.log10(ratio) if ratio > 0 else -math.inf

    def __str__(self) -> str:
        rank = f", rank {self.rank} and diagonal" if self.rank else ""
        how = self.signal.method
        if self.signal.num_samples:
            relative = self.signal.standard_error / (self.signal.value or 1.0)
            how += f", {self.signal.num_samples:,} draws, standard error {relative:.2%}"
        return (
            f"noise: std {self.std:.4g}{rank}, total variance {self.total_variance:.4g}; "
            f"SNR {self.snr_db:.2f} dB of a total variance {self.signal.value:.4g} ({how})"
        )


def describe_noise(model: Any) -> NoiseDescription | None:
    """The noise of a model's dictionary, or None where it has none."""
    noise = noise_of(model.feature_dict)
    if noise is None:
        return None
    std, factor = noise.of_width(model.feature_dict.feature_vectors.shape[1])
    total = float(std.double().square().sum() + factor.double().square().sum())
    return NoiseDescription(math.sqrt(total / len(std)), len(factor), total, signal_variance(model))


def has_its_noise(model: Any) -> bool:
    """Whether a model's noise is as much, and of the rank, as its config asks for."""
    recipe, noise = model.cfg.noise, noise_of(model.feature_dict)
    if recipe is None or noise is None:
        return recipe is None and noise is None
    if len(noise.factor) != recipe.rank:
        return False
    if recipe.std is not None:
        total = noise.of_width(model.cfg.hidden_dim)
        found = sum(float(part.double().square().sum()) for part in total)
        return math.isclose(found, model.cfg.hidden_dim * recipe.std**2, rel_tol=1e-4)
    told = describe_noise(model)
    assert told is not None
    # A hundredth of a decibel is far above what rounding does.
    return math.isclose(told.snr_db, recipe.snr_db, abs_tol=0.01)
