"""The parts of a model as its config describes them, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from synthkern._checks import as_dtype
from synthkern._warnings import warn
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary, orthogonal_initializer
from synthkern.model.hierarchy import Hierarchy, generate_hierarchy
from synthkern.model.manifold_vectors import (
    orthonormal_members,
    place_manifolds,
    placed_config,
)
from synthkern.model.rates import calibrate_firing_probabilities
from synthkern.model.shift import (
    correlation_recipe,
    forbidding_modifiers,
    shifted_rates,
    tree_levels,
)
from synthkern.model.views import leave_out_absent
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.correlation import LowRankCorrelationMatrix, draw_low_rank
from synthkern.world.magnitudes import generate_magnitudes

#: Of the numbers that a config gives; another whenever a change here, or in what is called here,
#: gives others, so that worlds that were kept are built again.
BUILD_VERSION = 1


def build_hierarchy(cfg: SyntheticModelConfig) -> Hierarchy | None:
    """The forest that a config asks for, or None."""
    if cfg.hierarchy is None:
        return None
    return generate_hierarchy(cfg.num_features, cfg.hierarchy, part_seed(cfg, 3))


def build_dictionary(
    cfg: SyntheticModelConfig, hierarchy: Hierarchy | None = None
) -> FeatureDictionary:
    """The feature vectors and the bias of a config, in its dtype; those of a manifold, which are
    placed by the hierarchy, are orthonormal.
    """
    initializer = None
    if cfg.orthogonalization is not None:
        o = cfg.orthogonalization
        initializer = orthogonal_initializer(o.num_steps, o.lr, True, o.chunk_size)
    dictionary = FeatureDictionary(
        cfg.num_features, cfg.hidden_dim, cfg.bias, initializer, seed=cfg.seed
    )
    if cfg.manifolds is not None:
        manifolds = place_manifolds(cfg, hierarchy)
        assert manifolds is not None
        with torch.no_grad():
            vectors = dictionary.feature_vectors
            vectors.copy_(orthonormal_members(vectors, manifolds))
    if cfg.views is not None:
        leave_out_absent(cfg, dictionary)
    return dictionary.to(as_dtype("dtype", cfg.dtype))


def build_correlation(cfg: SyntheticModelConfig) -> LowRankCorrelationMatrix | None:
    """The random correlation that a config asks for, or None."""
    recipe = correlation_recipe(cfg)
    if recipe is None:
        return None
    seed = part_seed(cfg, 4) if recipe.seed is None else recipe.seed
    dtype = as_dtype("dtype", cfg.dtype)
    factor, diag = draw_low_rank(
        cfg.num_features, recipe.rank, recipe.correlation_scale, seed, dtype, stacklevel=5
    )
    # The loadings that SAELens draws for this dtype, kept with what float32 has beyond it.
    held = torch.promote_types(dtype, torch.float32)
    return LowRankCorrelationMatrix(factor.to(held), diag.to(held))


def build_std_magnitudes(cfg: SyntheticModelConfig) -> torch.Tensor:
    """The standard deviations of the magnitudes that a config asks for: float32 [N]."""
    return generate_magnitudes(cfg.num_features, cfg.std_firing_magnitudes, part_seed(cfg, 1))


def build_mean_magnitudes(cfg: SyntheticModelConfig) -> torch.Tensor:
    """The mean magnitudes that a config asks for: float32 [N]."""
    return generate_magnitudes(cfg.num_features, cfg.mean_firing_magnitudes, part_seed(cfg, 2))


def build_generator(
    cfg: SyntheticModelConfig,
    hierarchy: Hierarchy | None,
    correlation: LowRankCorrelationMatrix | None,
) -> ActivationGenerator:
    """The generator of a config with a hierarchy and a correlation that are given."""
    n = cfg.num_features
    std, mean = build_std_magnitudes(cfg), build_mean_magnitudes(cfg)
    probabilities = cfg.firing_probability.generate(n, cfg.seed)
    compensation = cfg.hierarchy is not None and cfg.hierarchy.compensate_probabilities
    if compensation == "exact" and hierarchy is not None and hierarchy.modifier is not None:
        probabilities = calibrate_firing_probabilities(
            probabilities,
            hierarchy,
            n,
            std,
            mean,
            correlation,
            magnitude_distribution=cfg.magnitude_distribution,
            show_progress=True,
        ).base_firing_probabilities
    elif compensation is True and hierarchy is not None:
        probabilities = _compensated(probabilities, hierarchy)
    if cfg.shift is not None and cfg.shift.is_twin:
        manifolds = place_manifolds(cfg, hierarchy)
        if manifolds is not None:  # whose partners take no part in what is dealt
            probabilities = probabilities.clone()
            probabilities[manifolds.partners()] = 0
        probabilities = shifted_rates(cfg.shift, tree_levels(n, hierarchy), probabilities)
    return ActivationGenerator(
        n,
        probabilities,
        std,
        mean,
        build_modifiers(cfg, hierarchy),
        correlation,
        dtype=cfg.dtype,
        sequence=cfg.sequence,
        magnitude_distribution=cfg.magnitude_distribution,
        manifolds=placed_config(cfg, hierarchy),
    )


def build_modifiers(
    cfg: SyntheticModelConfig, hierarchy: Hierarchy | None
) -> list[Callable[..., Any]]:
    """What a config's generator applies: its hierarchy's modifier, then what keeps the shift's
    forbidden pairs apart.
    """
    own = () if hierarchy is None or hierarchy.modifier is None else (hierarchy.modifier,)
    return [*own, *forbidding_modifiers(cfg, hierarchy)]


def _compensated(probabilities: torch.Tensor, hierarchy: Hierarchy) -> torch.Tensor:
    wanted = probabilities * hierarchy.compute_probability_correction_factors(probabilities)
    over = wanted > 1
    if bool(over.any()):
        warn(
            f"compensate_probabilities asks for base probabilities above 1 of {int(over.sum())} "
            f"of {over.numel()} features (at most {float(wanted.max()):.3g}), which were set to 1: "
            "they fire more rarely than requested",
            stacklevel=5,
        )
    return wanted.clamp(max=1.0)


def part_seed(cfg: SyntheticModelConfig, part: int) -> int | None:
    """The seed of a part: the config's own plus the part's number, modulo 2**64."""
    return None if cfg.seed is None else (cfg.seed + part) % 2**64
