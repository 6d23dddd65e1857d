"""A world in a table: what fires how often at every level of its trees."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from synthkern._table import text_table
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.build import build_correlation, build_generator, build_hierarchy
from synthkern.model.feature_map import FeatureMap
from synthkern.model.fingerprint import config_fingerprint
from synthkern.model.rates import (
    EffectiveAutocorrelations,
    EffectiveFiringProbabilities,
    effective_autocorrelations,
    effective_firing_probabilities,
)
from synthkern.model.shift import ForbiddenPairs, pairs_kept_apart, shifted_rates
from synthkern.model.signal_to_noise import NoiseDescription
from synthkern.model.views_description import ViewsDescription, describe_views
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.magnitude_distribution import MagnitudeDistribution

_TITLES = (
    "level",
    "features",
    "exclusive",
    "requested",
    "effective",
    "ratio",
    "L0",
    "mean magnitude",
    "std",
)


@dataclass(frozen=True)
class LevelDescription:
    """The features of one level.

    Attributes:
        name: "0" for the top of the trees, "1" below, ...; "free" outside all trees; "all".
        num_features: how many.
        exclusive: share of them in mutually exclusive groups.
        requested: mean rate that the config asks for.
        effective: mean rate that they have.
        l0: how many of them fire in a sample, on average.
        mean_magnitude: mean of their mean magnitudes.
        std_magnitude: mean of their magnitudes' standard deviations, before any clipping.
        autocorrelation: along sequences, from one position to the next, of whether they are
            active: the sum of their autocovariances over that of their variances. None without
            sequences, or of one position.
    """

    name: str
    num_features: int
    exclusive: float
    requested: float
    effective: float
    l0: float
    mean_magnitude: float
    std_magnitude: float
    autocorrelation: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The level's row in print."""
        ratio = self.effective / self.requested if self.requested else 1.0
        cells = (
            self.name,
            f"{self.num_features:,}",
            f"{self.exclusive:.0%}",
            f"{self.requested:.3g}",
            f"{self.effective:.3g}",
            f"{ratio:.3f}",
            f"{self.l0:.2f}",
            f"{self.mean_magnitude:.3g}",
            f"{self.std_magnitude:.3g}",
        )
        if self.autocorrelation is None:
            return cells
        return (*cells, f"{self.autocorrelation:.3f}")


@dataclass(frozen=True)
class WorldDescription:
    """What :meth:`synthkern.SyntheticModel.describe` gives; ``str`` of it is a table.

    Attributes:
        num_features: N.
        hidden_dim: D.
        levels: the levels of the trees, the features outside them, and all together.
        rates: effective rates, feature by feature.
        requested: [N] rates that the config asks for.
        config_fingerprint: what the config is known by; see :mod:`synthkern.model.fingerprint`.
        fingerprint: what the world is known by, or None where it was not built or depends on code
            of the user's; see :attr:`synthkern.SyntheticModel.fingerprint`.
        magnitude_distribution: where it is another than the plain normal.
        forbidden_pairs: how many pairs of features are kept apart by the world's shift.
        lost_l0: what that takes of the L0.
        noise: in hidden activations; None where there is none, or no dictionary was built.
        autocorrelations: along sequences from one position to the next, or None without.
        views: the further views, or None.

    Example:
        >>> import synthkern as synthetic
        >>> trees = synthetic.HierarchyConfig(total_root_nodes=2, branching_factor=3, max_depth=1)
        >>> cfg = synthetic.SyntheticModelConfig(16, 4, hierarchy=trees, seed=0)
        >>> print(synthetic.SyntheticModel(cfg).describe())  # doctest: +ELLIPSIS
        16 features in 4 dimensions; L0 0.66, 0.1639 for each dimension
        effective rates: closed form
        <BLANKLINE>
        level  features  exclusive  requested  effective  ratio    L0  mean magnitude  std
        -----  --------  ---------  ---------  ---------  -----  ----  --------------  ---
            0         2         0%      0.223      0.223  1.000  0.45               1    0
            1         6         0%     0.0535     0.0133  0.249  0.08               1    0
         free         8         0%     0.0163     0.0163  1.000  0.13               1    0
          all        16         0%      0.056      0.041  0.731  0.66               1    0
        fingerprint of the config: ...
        fingerprint of the world: ...
    """

    num_features: int
    hidden_dim: int
    levels: tuple[LevelDescription, ...]
    rates: EffectiveFiringProbabilities
    requested: torch.Tensor
    config_fingerprint: str | None
    fingerprint: str | None = None
    magnitude_distribution: MagnitudeDistribution | None = None
    forbidden_pairs: int = 0
    lost_l0: float = 0.0
    noise: NoiseDescription | None = None
    autocorrelations: EffectiveAutocorrelations | None = None
    views: ViewsDescription | None = None

    def __str__(self) -> str:
        titles = _TITLES if self.autocorrelations is None else (*_TITLES, "autocorrelation")
        table = text_table([titles, *(level.cells() for level in self.levels)], rule=True)
        how = f"effective rates: {self.rates.method}"
        if self.rates.num_samples:
            known = self.rates.probabilities > 0
            error = (self.rates.standard_errors[known] / self.rates.probabilities[known]).max()
            how += f" ({self.rates.num_samples:,} draws, standard errors up to {float(error):.2%})"
        l0 = self.levels[-1].l0
        head = (
            f"{self.num_features:,} features in {self.hidden_dim:,} dimensions; "
            f"L0 {l0:.2f}, {l0 / self.hidden_dim:.4f} for each dimension"
        )
        lines = [head, how]
        if self.magnitude_distribution is not None:
            lines.append(f"magnitudes: {_text(self.magnitude_distribution)}")
        if self.noise is not None:
            lines.append(str(self.noise))
        if self.forbidden_pairs:
            lost = self.lost_l0 / max(l0 + self.lost_l0, 1e-300)
            lines.append(
                f"never together: {self.forbidden_pairs:,} forbidden pairs, which take "
                f"{self.lost_l0:.3g} of the L0, {lost:.2%}"
            )
        if self.autocorrelations is not None:
            lines.append(_along(self.autocorrelations))
        lines += ["", *table]
        if self.views is not None:
            lines += self.views.lines()
        for what, digits in (("config", self.config_fingerprint), ("world", self.fingerprint)):
            if digits is not None:
                lines.append(f"fingerprint of the {what}: {digits}")
        return "\n".join(lines)


def _along(found: EffectiveAutocorrelations) -> str:
    """How autocorrelations are known."""
    line = f"autocorrelations: {found.method}"
    if not found.num_samples:
        return line
    _, error = found.of_features(torch.ones_like(found.rates, dtype=torch.bool))
    return f"{line} ({found.num_samples:,} draws, standard error of all together {error:.2g})"


def describe_world(
    cfg: SyntheticModelConfig,
    generator: ActivationGenerator | None = None,
    feature_map: FeatureMap | None = None,
) -> WorldDescription:
    """Requested and effective rates, L0, magnitudes and exclusivity, level by level.

    Args:
        cfg: the recipe; it says which rates are requested (where they are random and the config
            has no seed, the generator's own base probabilities stand for them).
        generator: made of the recipe; None builds one, without feature vectors.
        feature_map: of the world's views, made of the recipe; None builds one where there is any.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=16, hidden_dim=4)
        >>> description = synthetic.describe_world(cfg)
        >>> round(description.levels[-1].l0, 2)
        0.9
    """
    if generator is None:
        generator = build_generator(cfg, build_hierarchy(cfg), build_correlation(cfg))
    rates = effective_firing_probabilities(generator)
    sequence = generator.plan.sequence
    along = None
    if sequence is not None and sequence.length > 1:
        along = effective_autocorrelations(generator)
    plan = generator.plan.to("cpu")
    depth = torch.full((plan.num_features,), -1, device="cpu")
    exclusive = torch.zeros(plan.num_features, dtype=torch.bool, device="cpu")
    # Pairs that are kept apart are no place in a tree.
    modifiers = generator.modify_activations or ()
    for modifier, forest in zip(modifiers, plan.forests, strict=False):
        if isinstance(modifier, ForbiddenPairs):
            continue
        features = forest.feature.long()
        for number, nodes in enumerate(forest.levels()):
            depth[features[nodes]] = number
        exclusive[features] |= forest.group >= 0
    requested = _requested(cfg, plan.probability, depth)
    deviation = plan.std if plan.magnitudes is None else plan.magnitudes.deviation
    mean, std = plan.mean.double(), deviation.double()
    if plan.manifolds is not None:
        # What is asked of a manifold is asked of its leader.
        of = plan.manifolds.leader_of()
        requested, mean, std = requested[of], mean[of], std[of]

    def level(name: str, chosen: torch.Tensor) -> LevelDescription:
        effective = rates.probabilities[chosen]
        return LevelDescription(
            name=name,
            num_features=int(chosen.sum()),
            exclusive=float(exclusive[chosen].double().mean()),
            requested=float(requested[chosen].mean()),
            effective=float(effective.mean()),
            l0=float(effective.sum()),
            mean_magnitude=float(mean[chosen].mean()),
            std_magnitude=float(std[chosen].mean()),
            autocorrelation=None if along is None else along.of_features(chosen)[0],
        )

    levels = [level(str(d), depth == d) for d in range(int(depth.max()) + 1)]
    if bool((depth < 0).any()):
        levels.append(level("free", depth < 0))
    levels.append(level("all", depth >= -1))
    return WorldDescription(
        cfg.num_features,
        cfg.hidden_dim,
        tuple(levels),
        rates,
        requested,
        config_fingerprint(cfg),
        magnitude_distribution=None
        if plan.magnitudes is None
        else generator.magnitude_distribution,
        forbidden_pairs=len(pairs_kept_apart(generator)),
        lost_l0=_lost_l0(generator, rates),
        autocorrelations=along,
        views=describe_views(cfg, generator, feature_map),
    )


def _lost_l0(generator: ActivationGenerator, rates: EffectiveFiringProbabilities) -> float:
    """What forbidden pairs take of the L0."""
    if not pairs_kept_apart(generator):
        return 0.0
    without = copy.deepcopy(generator)
    own = generator.modify_activations or ()
    without.modify_activations = [each for each in own if not isinstance(each, ForbiddenPairs)]
    return effective_firing_probabilities(without).l0 - rates.l0


def _requested(cfg: SyntheticModelConfig, base: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The rates [N] that a config asks for."""
    first, second = (cfg.firing_probability.generate(cfg.num_features, cfg.seed) for _ in range(2))
    if not torch.equal(first, second):
        return base.double()
    if cfg.shift is not None and cfg.shift.is_twin:
        first = shifted_rates(cfg.shift, level, first)
    return first.double()


def _text(distribution: MagnitudeDistribution) -> str:
    """A distribution in a few words."""
    found = distribution.to_dict()
    name = found.pop("name")
    parts = [f"{key} {value:g}" for key, value in found.items() if value]
    return ", ".join([name, *parts])
