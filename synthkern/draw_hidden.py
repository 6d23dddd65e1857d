"""Hidden activations of a generator's samples: the two together, fused where the engine can."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern._checks import as_int
from synthkern.activation_generator import ActivationGenerator
from synthkern.feature_dictionary import FeatureDictionary
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position


@torch.no_grad()
def draw_hidden(
    generator: ActivationGenerator,
    dictionary: FeatureDictionary,
    batch_size: int,
    seed: int | None,
    start: int,
    *,
    features: bool,
) -> tuple[torch.Tensor, SparseActivations | torch.Tensor | None]:
    """Hidden activations [B, D] of samples start ... start + B - 1 of a seed's stream.

    The features come along where they are wanted: in CSR form where the engine makes them, else
    as the generator's own tensor. A seed of None draws a fresh one.
    """
    seed, start = stream_position(seed, start)
    count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
    vectors, bias = dictionary.feature_vectors.detach(), dictionary.bias.detach()
    if not generator.is_fused:
        activations = generator.sample(count, seed=seed, start=start)
        return dictionary(activations), activations
    if dictionary.is_plain and vectors.dtype == torch.float32:
        drawn = engine.sample(
            generator.plan,
            seed=seed,
            start=start,
            count=count,
            features=features,
            vectors=vectors,
            bias=bias,
        )
        assert drawn.hidden is not None
        return drawn.hidden, drawn.features
    entries = generator.sample_sparse(count, seed=seed, start=start)
    return dictionary(entries), entries


def check_fit(feature_dict: Any, activations_generator: Any) -> None:
    """Raise unless these are a dictionary and a generator of as many features."""
    if not isinstance(feature_dict, FeatureDictionary):
        raise TypeError(f"feature_dict must be a FeatureDictionary, got {feature_dict!r}")
    if not isinstance(activations_generator, ActivationGenerator):
        raise TypeError(
            f"activations_generator must be an ActivationGenerator, got {activations_generator!r}"
        )
    if activations_generator.num_features != feature_dict.num_features:
        raise ValueError(
            f"activations_generator must have {feature_dict.num_features} features as "
            f"feature_dict has, got {activations_generator.num_features}"
        )
