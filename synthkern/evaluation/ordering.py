"""Latents in the order of the features that they stand for, so that a picture has a diagonal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from synthkern.evaluation.matching import best_matches, check_vectors, cosine_blocks
from synthkern.evaluation.sae_interface import weight
from synthkern.model.draw_hidden import feature_vectors_of


def find_best_feature_ordering(
    sae_features: torch.Tensor, true_features: torch.Tensor
) -> torch.Tensor:
    """Latents sorted by their best-matching feature, that of the greatest |cosine|.

    Args:
        sae_features: [M, D] decoder rows, floating point, finite.
        true_features: [N, D] feature vectors.

    Returns:
        [M] int64, a permutation; of latents that match one feature the first comes first.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> vectors = torch.eye(3)
        >>> synthetic.find_best_feature_ordering(vectors[[2, 0, 1]], vectors)
        tensor([1, 2, 0])
    """
    check_vectors(("sae_features", sae_features), ("true_features", true_features))
    matches = best_matches(sae_features, true_features)
    return matches.argsort(stable=True).to(sae_features.device)


def find_best_feature_ordering_from_sae(sae: Any, feature_dict: Any) -> torch.Tensor:
    """The ordering [M] of an SAE's latents, by its ``W_dec`` [M, D].

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> features = synthetic.FeatureDictionary(3, 4, initializer=None, seed=0)
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=3))
        >>> order = torch.tensor([2, 0, 1])
        >>> synthetic.init_sae_to_match_feature_dict(sae, features, feature_ordering=order)
        >>> synthetic.find_best_feature_ordering_from_sae(sae, features)
        tensor([1, 2, 0])
    """
    vectors = feature_vectors_of("feature_dict", feature_dict)
    return find_best_feature_ordering(weight(sae, "W_dec", vectors.shape[1]).detach(), vectors)


def find_best_feature_ordering_across_saes(saes: Iterable[Any], feature_dict: Any) -> torch.Tensor:
    """Of the orderings of several SAEs that with the clearest diagonal: for a row of pictures.

    That is the greatest mean cosine, to two decimals each, of the first min(M, N) latents in that
    order with the features of the same number.

    Raises:
        ValueError: where there is no SAE.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> features = synthetic.FeatureDictionary(3, 4, initializer=None, seed=0)
        >>> cfg = synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=3)
        >>> saes = [synthetic.make_sae(cfg), synthetic.make_sae(cfg)]
        >>> order = torch.tensor([2, 0, 1])
        >>> synthetic.init_sae_to_match_feature_dict(saes[1], features, feature_ordering=order)
        >>> synthetic.find_best_feature_ordering_across_saes(saes, features)  # that of the second
        tensor([1, 2, 0])
    """
    vectors = feature_vectors_of("feature_dict", feature_dict)
    best: tuple[float, torch.Tensor] | None = None
    for sae in saes:
        ordering = find_best_feature_ordering_from_sae(sae, feature_dict)
        decoder = sae.W_dec.detach()[ordering[: len(vectors)]]
        diagonal = [
            block.diagonal(rows.start).mul(100).round().sum() / 100
            for rows, block in cosine_blocks(decoder, vectors)
        ]
        score = float(sum(diagonal)) / max(1, len(decoder))
        if best is None or score > best[0]:
            best = score, ordering
    if best is None:
        raise ValueError("saes must have at least one SAE, got none")
    return best[1]


def as_ordering(name: str, value: Any, size: int, *, at_least: int) -> torch.Tensor:
    """Integers in [0, size), at least so many, of a tensor, array or list, as a tensor."""
    if isinstance(value, list | tuple | np.ndarray):
        try:
            value = torch.tensor(value, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be integers, got {value!r}") from error
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor of integers, got {value!r}")
    if value.dim() != 1 or value.is_floating_point() or value.dtype == torch.bool:
        raise ValueError(
            f"{name} must be integers in one dimension, got {value.dtype} {list(value.shape)}"
        )
    if len(value) < at_least:
        raise ValueError(f"{name} must have at least {at_least} entries, got {len(value)}")
    bad = (value < 0) | (value >= size)
    if bool(bad.any()):
        place = int(bad.nonzero()[0])
        raise ValueError(f"{name} must be in [0, {size}), got {int(value[place])} at [{place}]")
    return value.long()
