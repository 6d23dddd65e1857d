"""SAELens' own dictionary, generator and SAE beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic
from synthkern.sae import TopKTrainingSAEConfig, make_sae

peer: Any = pytest.importorskip("sae_lens.synthetic")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled"),
]

N, D = 8, 6


def parts() -> dict[str, tuple[Any, Any]]:
    """Every pairing of the two packages' dictionaries and generators."""
    dictionaries = {"ours": synthetic.FeatureDictionary(N, D, seed=1)}
    dictionaries["peer"] = peer.FeatureDictionary(N, D, initializer=None, seed=1)
    generators = {
        p: k.ActivationGenerator(N, 0.3) for p, k in (("ours", synthetic), ("peer", peer))
    }
    return {f"{d} {g}": (dictionaries[d], generators[g]) for d in dictionaries for g in generators}


@pytest.mark.parametrize("which", ["ours peer", "peer ours", "peer peer"])
def test_parts_of_saelens_work_where_ours_do(which: str) -> None:
    dictionary, generator = parts()[which]
    torch.manual_seed(0)
    sae = make_sae(TopKTrainingSAEConfig(d_in=D, d_sae=N, k=2))
    synthetic.init_sae_to_match_feature_dict(sae, dictionary)
    synthetic.train_toy_sae(sae, dictionary, generator, 64, 16)
    torch.manual_seed(4)
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 400, 100)
    torch.manual_seed(4)
    own = [generator.sample(100) for _ in range(4)]
    assert result.true_l0 == pytest.approx(float((torch.cat(own) > 0).sum() / 400), abs=1e-6)

    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model = synthetic.SyntheticModel(cfg, dictionary, generator)
    torch.manual_seed(5)
    hidden, features = model.sample_with_features(10)
    torch.manual_seed(5)
    drawn = generator.sample(10)
    assert torch.equal(features, drawn)
    assert torch.allclose(hidden, dictionary(drawn), atol=1e-6)
    assert model.device == "cpu"
    assert model.has_positions == which.endswith("ours")
    rates = synthetic.effective_firing_probabilities(model, num_samples=4096)
    assert float((rates.probabilities - 0.3).abs().max()) < 6 * (0.3 * 0.7 / 4096) ** 0.5
    assert synthetic.compute_superposition_stats(dictionary).hidden_dim == D
    assert len(synthetic.find_best_feature_ordering_from_sae(sae, dictionary)) == N
    if which.endswith("peer"):
        with pytest.raises(ValueError, match="seed and start must be left out"):
            synthetic.SyntheticStream(model, 4, seed=1)


def test_names_and_defaults_are_those_of_saelens() -> None:
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 2, 0.3, seed=1)
    for package in (synthetic, peer):
        generator = package.ActivationGenerator(
            N, 0.3, modify_activations=[], correlation_matrix=tuple(loadings)
        )
        assert generator.modify_activations is None
        assert torch.allclose(generator.low_rank_correlation[0], loadings[0])
        assert torch.allclose(generator.low_rank_correlation[1], loadings[1].sqrt())
        model = package.SyntheticModel(package.SyntheticModelConfig(N, D, bias=False, seed=1))
        assert model.device == "cpu"
        assert not model.feature_dict.bias.requires_grad
        assert model.sample(0).shape == (0, D)
        model.use_sparse_tensors = True
        assert model.sample_with_features(3)[1].is_sparse
        model.activation_generator.firing_probabilities.fill_(0)
        assert float(model.sample_with_features(50)[1].to_dense().sum()) == 0
        model.activation_generator.firing_probabilities = torch.ones(N)
        model.activation_generator.mean_firing_magnitudes = torch.full((N,), 2.0)
        assert model.sample_with_features(1)[1].to_dense().tolist() == [[2.0] * N]


def test_plots_with_their_feature_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = pytest.importorskip("plotly.graph_objects")
    shown: list[Any] = []
    monkeypatch.setattr(graph.Figure, "show", lambda figure, *_, **__: shown.append(figure))
    dictionary = peer.FeatureDictionary(N, D, initializer=None, seed=1)
    torch.manual_seed(0)
    sae = make_sae(TopKTrainingSAEConfig(d_in=D, d_sae=N, k=2))
    for reorder in (False, True, [*range(N)][::-1]):
        shown.clear()
        for package in (synthetic, peer):
            package.plot_sae_feature_similarity(sae, dictionary, reorder_features=reorder)
        here, there = shown
        for one, other in zip(here.data, there.data, strict=True):
            np.testing.assert_allclose(np.array(one.z), np.array(other.z), atol=0.0101)
    page = tmp_path / "plot.html"
    synthetic.plot_sae_feature_similarity(sae, dictionary, save_path=page, show_plot=False)
    assert page.stat().st_size > 1000
