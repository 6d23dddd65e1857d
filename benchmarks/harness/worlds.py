"""The worlds that are measured, and batches of them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch

from synthkern import ActivationGenerator, SparseActivations, SyntheticModel, SyntheticModelConfig

#: Of every stream that is sampled here.
SEED = 0


def build(preset: str) -> SyntheticModel:
    """A preset's world without its orthogonalization, which changes no speed of sampling."""
    config = SyntheticModelConfig.preset(preset)
    config.orthogonalization = None
    with warnings.catch_warnings():
        # The large worlds ask for base probabilities above 1: so they are defined.
        warnings.filterwarnings("ignore", message="compensate_probabilities")
        return SyntheticModel(config)


def with_copula(world: SyntheticModel, copula: str) -> SyntheticModel:
    """The world with independent firing, its own low-rank copula, or the same as a full matrix."""
    generator = world.activation_generator
    low_rank = generator.correlation
    assert low_rank is not None
    correlations = {
        "independent": lambda: None,
        "low-rank": lambda: low_rank,
        "full": lambda: (
            low_rank.correlation_factor @ low_rank.correlation_factor.T
            + torch.diag(low_rank.correlation_diag)
        ),
    }
    changed = ActivationGenerator(
        generator.num_features,
        generator.firing_probabilities,
        generator.std_firing_magnitudes,
        generator.mean_firing_magnitudes,
        generator.modify_activations,
        correlations[copula](),
    )
    return SyntheticModel(world.cfg, world.feature_dict, changed, world.hierarchy)


def without_hierarchy(world: SyntheticModel) -> ActivationGenerator:
    """The world's generator before its forest: what the forest is applied to."""
    generator = world.activation_generator
    return ActivationGenerator(
        generator.num_features,
        generator.firing_probabilities,
        generator.std_firing_magnitudes,
        generator.mean_firing_magnitudes,
        correlation_matrix=generator.correlation,
    )


def in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """A callable that makes these calls one after the other, and then again.

    Successive batches of one stream, so that no system meets a batch whose rows are in a cache
    only because it has just been through them.
    """
    endless = itertools.cycle(calls)
    return lambda: next(endless)()


def successive(
    draw: Callable[..., object], batch_size: int, batches: int
) -> list[Callable[[], object]]:
    """Calls of ``draw`` for the first batches of the stream."""
    return [
        partial(draw, batch_size, seed=SEED, start=number * batch_size) for number in range(batches)
    ]


def bare_gather(activations: SparseActivations, vectors: torch.Tensor) -> Callable[[], object]:
    """The floor: torch's own weighted sum of these samples' rows, and nothing else."""
    return partial(
        torch.nn.functional.embedding_bag,
        activations.indices,
        vectors,
        activations.offsets.to(torch.int32),
        mode="sum",
        per_sample_weights=activations.values,
        include_last_offset=True,
    )
