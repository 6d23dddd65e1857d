"""Arguments in the many forms that SAELens takes them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic


@pytest.mark.parametrize("collect", [iter, set, lambda each: dict.fromkeys(each).keys()])
def test_modifiers_in_any_iterable(collect: Callable[[Any], Iterable[Any]]) -> None:
    modifiers = [lambda a: a * 2, lambda a: a * 3]
    generator = synthetic.ActivationGenerator(2, 1.0, modify_activations=collect(modifiers))  # type: ignore[arg-type]
    assert generator.sample(2).tolist() == generator.sample(1).expand(2, 2).tolist()
    assert generator.sample(1).tolist() == [[6.0, 6.0]]


def test_a_low_rank_correlation_as_a_list() -> None:
    pair: Any = [torch.full((4, 2), 0.1), torch.full((4,), 0.98)]
    generator = synthetic.ActivationGenerator(4, 0.5, correlation_matrix=pair)
    same = synthetic.ActivationGenerator(4, 0.5, correlation_matrix=tuple(pair))
    assert torch.equal(generator.sample(50, seed=1), same.sample(50, seed=1))
    cfg = synthetic.SyntheticModelConfig(4, 3, seed=1)
    model = synthetic.SyntheticModel(cfg, correlation_matrix=pair)
    assert model.correlation_matrix is not None
    assert torch.equal(model.correlation_matrix.correlation_factor, pair[0])


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_an_ordering_that_is_no_tensor(kind: Callable[[Any], Any]) -> None:
    class Sae:
        W_enc, W_dec = torch.zeros(3, 3), torch.zeros(3, 3)

    dictionary = synthetic.FeatureDictionary(3, 3, seed=1)
    synthetic.init_sae_to_match_feature_dict(Sae, dictionary, feature_ordering=kind([2, 0, 1]))
    assert torch.equal(Sae.W_dec, dictionary.feature_vectors.detach()[[2, 0, 1]])
    with pytest.raises(ValueError, match="feature_ordering must be integers in one dimension"):
        synthetic.init_sae_to_match_feature_dict(Sae, dictionary, feature_ordering=kind([0.5]))
    pytest.importorskip("plotly")
    figure = synthetic.plot_sae_feature_similarity(
        Sae, dictionary, reorder_features=kind([1, 2, 0]), decoder_only=True, show_plot=False
    )
    expected = dictionary.feature_vectors.detach()
    drawn = torch.tensor(np.array(figure.data[0].z))
    torch.testing.assert_close(drawn.float(), expected @ expected.T, atol=0.006, rtol=0)


def test_a_models_dtype_as_torch_has_it() -> None:
    for given in (torch.bfloat16, "torch.bfloat16"):
        cfg: Any = synthetic.SyntheticModelConfig(4, 3, dtype=given)  # type: ignore[arg-type]
        assert cfg.to_dict()["dtype"] == "bfloat16"
        assert synthetic.SyntheticModel(cfg).sample(2).dtype == torch.bfloat16


def test_what_a_node_says_besides_is_left_out_with_a_warning() -> None:
    tree = {
        "feature_index": 0,
        "id": np.int64(7),
        "note": 1,
        "children": [{"feature_index": 1, "at": 2}],
    }
    with pytest.warns(UserWarning, match=r"unknown keys \['at', 'note'\].*known are \["):
        node = synthetic.HierarchyNode.from_dict(tree)
    assert node.get_all_feature_indices() == [0, 1]
    assert node.feature_id == 7
    assert synthetic.HierarchyNode.from_dict(node.to_dict()) == node
