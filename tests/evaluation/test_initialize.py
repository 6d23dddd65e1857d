"""SAEs that start from the features, and the orders of latents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stub_sae import StubSAE, random_sae

import synthkern as synthetic

N, D = 9, 6


def dictionary() -> synthetic.FeatureDictionary:
    return synthetic.FeatureDictionary(N, D, initializer=None, seed=0)


@pytest.mark.parametrize("m", [0, 1, N - 2, N, N + 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_columns_become_vectors(m: int, dtype: torch.dtype) -> None:
    sae, features = random_sae(m, D).to(dtype), dictionary()
    before, parameters = sae.W_enc.detach().clone(), (sae.W_enc, sae.W_dec)
    synthetic.init_sae_to_match_feature_dict(sae, features)
    count = min(m, N)
    assert torch.equal(sae.W_enc[:, :count], features.feature_vectors[:count].T.to(dtype))
    assert torch.equal(sae.W_enc[:, count:], before[:, count:])
    assert torch.equal(sae.W_dec, sae.W_enc.T)
    # An optimizer that has them goes on having them.
    assert parameters == (sae.W_enc, sae.W_dec)
    assert sae.W_dec.is_contiguous()


def test_noise_and_ordering() -> None:
    features, order = dictionary(), torch.tensor([3, 1, 8, 0])
    sae, other = random_sae(4, D), random_sae(4, D)
    for one in (sae, other):
        torch.manual_seed(1)
        synthetic.init_sae_to_match_feature_dict(one, features, 0.01, order)
    assert torch.equal(sae.W_enc, other.W_enc)
    noise = (sae.W_enc.detach() - features.feature_vectors.detach()[order].T).flatten()
    # 24 normals of deviation 0.01: their own deviation is within 3 / sqrt(48) of that.
    assert float(noise.std()) == pytest.approx(0.01, rel=0.44)
    assert torch.equal(sae.W_dec, sae.W_enc.T)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sae": object()}, TypeError, "sae must have a tensor W_enc"),
        ({"sae": StubSAE(torch.ones(D, 3), torch.ones(4, D))}, ValueError, r"W_dec.*\[3, 6\]"),
        ({"sae": random_sae(4, D + 1)}, ValueError, r"W_enc must have shape \[6, M\]"),
        ({"feature_dict": 1}, TypeError, "feature_dict"),
        ({"noise_level": -1.0}, ValueError, "noise_level.*-1"),
        ({"feature_ordering": "first"}, TypeError, "feature_ordering.*first"),
        ({"feature_ordering": [1]}, ValueError, "at least 4 entries, got 1"),
        ({"feature_ordering": torch.ones(4)}, ValueError, "integers.*float32"),
        ({"feature_ordering": torch.arange(3)}, ValueError, "at least 4 entries, got 3"),
        ({"feature_ordering": torch.tensor([0, 1, 2, N])}, ValueError, r"got 9 at \[3\]"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    defaults = {"sae": random_sae(4, D), "feature_dict": dictionary()}
    before = defaults["sae"].W_enc.detach().clone()  # type: ignore[attr-defined]
    with pytest.raises(error, match=words):
        synthetic.init_sae_to_match_feature_dict(**{**defaults, **arguments})
    assert torch.equal(defaults["sae"].W_enc, before)  # type: ignore[attr-defined]


def test_latents_are_sorted_by_their_features() -> None:
    axes = torch.eye(3)
    latents = torch.tensor([[0.0, 0.1, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.2], [2.0, 0.0, 0.1]])
    assert synthetic.find_best_feature_ordering(latents, axes).tolist() == [1, 3, 2, 0]
    assert synthetic.find_best_feature_ordering(latents[:0], axes).tolist() == []


@pytest.mark.parametrize("m", [N - 3, N, N + 3])
def test_across_saes_the_clearest_is_taken(m: int) -> None:
    features = dictionary()
    vague, clear = random_sae(m, D, seed=1), random_sae(m, D, seed=2)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    synthetic.init_sae_to_match_feature_dict(clear, features, 0.0, order)
    if m < N:
        # The first features are the ones that are found.
        order = torch.arange(m).flip(0)
        synthetic.init_sae_to_match_feature_dict(clear, features, 0.0, order)
    expected = synthetic.find_best_feature_ordering_from_sae(clear, features)
    for saes in ([vague, clear], [clear, vague]):
        got = synthetic.find_best_feature_ordering_across_saes(iter(saes), features)
        assert torch.equal(got, expected)
    with pytest.raises(ValueError, match="saes must have at least one"):
        synthetic.find_best_feature_ordering_across_saes([], features)
