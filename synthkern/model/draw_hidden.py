"""Hidden activations of a generator's samples: the two together, fused where the engine can."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern._checks import as_bool, as_int
from synthkern.model.activation_generator import ActivationGenerator, as_activations
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.hidden_noise import HiddenNoise, noise_of
from synthkern.model.ownership import draw_from, sampler_of
from synthkern.plan import largest_values
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position


@torch.no_grad()
def draw_hidden(
    generator: Any,
    dictionary: Any,
    batch_size: int,
    seed: int | None,
    start: int,
    *,
    features: bool,
    noise: bool = True,
) -> tuple[torch.Tensor, SparseActivations | torch.Tensor | None]:
    """Hidden activations [B, D] of samples start ... start + B - 1 of a seed's stream.

    The features come along where they are wanted: in CSR form where the engine makes them, else
    as the generator's own tensor. A seed of None draws a fresh one. What the user wrote in place
    of the package's own functions is called, and then with the tensors that ``sample`` gives.

    The dictionary's noise is added, whoever wrote the dictionary: it has noise where its ``noise``
    is a HiddenNoise. Where nobody gave a seed and the parts draw their own, so does it.

    Args:
        generator: an ActivationGenerator, or anything that :func:`sampler_of` takes.
        dictionary: a FeatureDictionary, or any callable with ``feature_vectors`` [N, D].
        noise: whether the dictionary's noise is added.
    """
    added = noise_of(dictionary) if as_bool("noise", noise) else None
    count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
    is_fused = isinstance(generator, ActivationGenerator) and generator.is_fused
    is_own = isinstance(dictionary, FeatureDictionary) and dictionary.is_own
    if not is_fused or not is_own:
        hidden, drawn = _by_calls(generator, dictionary, count, seed, start, is_own=is_own)
        if added is not None:
            seed, start = stream_position(seed, start)
            # To a copy, as what was called may keep what it gave.
            hidden = added.added_to(hidden, seed=seed, start=start)
        return hidden, drawn
    seed, start = stream_position(seed, start)
    vectors, bias = dictionary.feature_vectors.detach(), dictionary.bias.detach()
    if dictionary.gather_mode == "exact" and vectors.dtype == torch.float32:
        both = engine.sample(
            generator.plan,
            seed=seed,
            start=start,
            count=count,
            features=features,
            vectors=vectors,
            bias=bias,
            noise=None if added is None else added.of_width(vectors.shape[1]),
        )
        assert both.hidden is not None
        return both.hidden, both.features
    entries = generator.sample_sparse(count, seed=seed, start=start)
    if added is None:
        return dictionary(entries), entries
    return _with_noise(entries, dictionary, added, seed, start), entries


def _with_noise(
    entries: SparseActivations,
    dictionary: FeatureDictionary,
    noise: HiddenNoise,
    seed: int,
    start: int,
) -> torch.Tensor:
    """Hidden activations with noise, rounded to float16 or bfloat16 after it is added."""
    vectors, bias = dictionary.feature_vectors.detach(), dictionary.bias.detach()
    wide = torch.promote_types(vectors.dtype, torch.float32)
    hidden = engine.gather(entries, vectors.to(wide), bias.to(wide), mode=dictionary.gather_mode)
    width = noise.of_width(hidden.shape[1])
    return engine.add_noise(hidden, width, seed=seed, start=start).to(vectors.dtype)


def _by_calls(
    generator: Any, dictionary: Any, count: int, seed: int | None, start: int, *, is_own: bool
) -> tuple[torch.Tensor, SparseActivations | torch.Tensor]:
    """The same of objects of the user's, each called as its author wrote it."""
    name, (size, width) = "activations_generator", dictionary.feature_vectors.shape
    activations = as_activations(name, draw_from(name, generator, count, seed, start), count, size)
    if isinstance(activations, SparseActivations) and not is_own:
        activations = activations.to_dense()
    hidden = dictionary(activations)
    if not isinstance(hidden, torch.Tensor) or tuple(hidden.shape) != (count, width):
        got = list(hidden.shape) if isinstance(hidden, torch.Tensor) else hidden
        raise ValueError(
            f"feature_dict must return a tensor of shape [{count}, {width}], got {got!r}"
        )
    return (hidden if hidden.layout == torch.strided else hidden.to_dense()), activations


def check_sums(generator: Any, dictionary: Any, dtype: torch.dtype) -> None:
    """Raise where hidden activations of a dtype may not be finite, as far as is known beforehand.

    They are at most the sum of the features' largest values, each times the largest number of its
    vector. float16, whose range is passed by such sums that never come, must hold each of them.
    """
    is_fused = isinstance(generator, ActivationGenerator) and generator.is_fused
    if not is_fused or not isinstance(dictionary, FeatureDictionary) or not dictionary.is_own:
        return
    plan = generator.plan
    forests = [forest.to(torch.device("cpu")) for forest in plan.forests]
    largest = largest_values(
        plan.mean.cpu(),
        plan.std.cpu(),
        forests,
        manifolds=plan.manifolds,
        magnitudes=plan.magnitudes,
    ).clamp(min=0)
    lengths = torch.linalg.vector_norm(dictionary.feature_vectors.detach(), torch.inf, dim=1)
    terms = lengths.cpu() * largest
    most = terms.max() if dtype == torch.float16 else terms.sum()
    most += float(dictionary.bias.detach().abs().max())
    noise = noise_of(dictionary)
    if noise is not None:
        most += noise.largest
    if most > torch.finfo(dtype).max:
        raise ValueError(
            f"feature_dict must give hidden activations that are finite in {dtype}, got vectors "
            f"and a bias that take those of activation_generator to {float(most):.3g}"
        )


def check_fit(feature_dict: Any, activations_generator: Any) -> None:
    """Raise unless these are a dictionary and a generator, of as many features where both say."""
    vectors = check_dictionary("feature_dict", feature_dict)
    sampler_of("activations_generator", activations_generator)
    size = getattr(activations_generator, "num_features", len(vectors))
    if size != len(vectors):
        raise ValueError(
            f"activations_generator must have {len(vectors)} features as feature_dict has, "
            f"got {size}"
        )
    check_sums(activations_generator, feature_dict, vectors.dtype)


def check_dictionary(name: str, dictionary: Any) -> torch.Tensor:
    """The feature vectors [N, D] of anybody's dictionary, without gradients.

    Raises:
        TypeError: where it has no ``feature_vectors`` or cannot be called.
        ValueError: where they are no matrix of floating-point numbers.
    """
    vectors = feature_vectors_of(name, dictionary)
    if not callable(dictionary):
        raise TypeError(f"{name} must be callable on feature activations, got {dictionary!r}")
    return vectors


def feature_vectors_of(name: str, dictionary: Any) -> torch.Tensor:
    """The feature vectors [N, D] of anybody's dictionary, without gradients."""
    vectors = getattr(dictionary, "feature_vectors", None)
    if not isinstance(vectors, torch.Tensor):
        raise TypeError(f"{name} must have a tensor feature_vectors [N, D], got {dictionary!r}")
    if vectors.dim() != 2 or not vectors.is_floating_point():
        raise ValueError(
            f"{name}.feature_vectors must be floating point of shape [N, D], "
            f"got {vectors.dtype} {list(vectors.shape)}"
        )
    return vectors.detach()
