"""An SAE that knows the features from the start."""

from __future__ import annotations

from typing import Any

import torch

from synthkern._checks import as_float
from synthkern.evaluation.ordering import as_ordering
from synthkern.evaluation.sae_interface import weight
from synthkern.model.draw_hidden import feature_vectors_of


@torch.no_grad()
def init_sae_to_match_feature_dict(
    sae: Any,
    feature_dict: Any,
    noise_level: float = 0.0,
    feature_ordering: torch.Tensor | None = None,
) -> None:
    """Give an SAE the feature vectors as weights, in place.

    The first min(M, N) columns of ``W_enc`` become feature vectors with normal noise, from torch's
    global generator; columns beyond stay. ``W_dec`` becomes the whole of ``W_enc`` transposed.

    Args:
        sae: has ``W_enc`` [D, M] and ``W_dec`` [M, D].
        feature_dict: the dictionary, D wide, of N features.
        noise_level: standard deviation of the noise, at least 0.
        feature_ordering: which feature each latent gets, integers in [0, N), at least min(M, N)
            of them; as they come where None.

    Raises:
        ValueError: for a value out of range, or another shape.
        TypeError: for a value of a wrong type.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> features = synthetic.FeatureDictionary(8, 16, initializer=None, seed=0)
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=8))
        >>> synthetic.init_sae_to_match_feature_dict(sae, features)
        >>> torch.equal(sae.W_dec, features.feature_vectors)
        True
    """
    level = as_float("noise_level", noise_level, low=0)
    vectors = feature_vectors_of("feature_dict", feature_dict)
    encoder = weight(sae, "W_enc", vectors.shape[1], columns=True)
    decoder = weight(sae, "W_dec", vectors.shape[1])
    if decoder.shape != encoder.T.shape:
        raise ValueError(
            f"sae.W_dec must have shape {list(encoder.T.shape)} as sae.W_enc transposed, "
            f"got {list(decoder.shape)}"
        )
    count = min(len(decoder), len(vectors))
    if feature_ordering is not None:
        ordering = as_ordering("feature_ordering", feature_ordering, len(vectors), at_least=count)
        vectors = vectors[ordering.to(vectors.device)]
    columns = vectors[:count].T
    if level:
        columns = columns + level * torch.randn_like(columns)
    encoder[:, :count] = columns
    decoder.copy_(encoder.T)
