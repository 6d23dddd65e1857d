"""Arguments in the many forms that SAELens takes them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic

KINDS = (torch.bool, torch.uint8, torch.int32, torch.int64)


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


@pytest.mark.parametrize("dtype", KINDS)
def test_a_mask_says_which_features_fire(dtype: torch.dtype) -> None:
    mask = torch.tensor([1, 0, 1], dtype=dtype)
    generator = synthetic.ActivationGenerator(3, mask)
    assert torch.equal(generator.sample(4, seed=0), torch.tensor([[1.0, 0.0, 1.0]] * 4))


def test_magnitudes_are_whole_numbers() -> None:
    means, stds = torch.tensor([2, 3]), torch.tensor([0, 0])
    generator = synthetic.ActivationGenerator(2, 1.0, stds, means)
    assert torch.equal(generator.sample(2, seed=0), torch.tensor([[2.0, 3.0]] * 2))


@pytest.mark.peer
@pytest.mark.parametrize("dtype", KINDS)
def test_saelens_reads_a_mask_alike(dtype: torch.dtype) -> None:
    saelens = pytest.importorskip("sae_lens.synthetic")
    mask = torch.tensor([1, 0, 1], dtype=dtype)
    theirs = saelens.ActivationGenerator(3, mask).sample(4)
    assert torch.equal(synthetic.ActivationGenerator(3, mask).sample(4), theirs)


@pytest.mark.parametrize("dtype", KINDS)
def test_whole_numbers_count_and_are_gated(dtype: torch.dtype) -> None:
    acts, vectors = (torch.arange(24).reshape(4, 6) % 3).to(dtype), torch.eye(6)
    wide = acts.double()
    for layout in (acts, acts.to_sparse()):
        l0, dead = synthetic.L0Calculator(), synthetic.DeadLatentsCalculator(6)
        for calculator in (l0, dead):
            calculator.add_batch(layout)
        assert (l0.compute(), dead.compute()) == (4.0, 2)
        assert synthetic.compute_classification_metrics(
            layout, layout, vectors, vectors
        ) == synthetic.compute_classification_metrics(wide, wide, vectors, vectors)
        tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        gated = synthetic.hierarchy_modifier(tree)(layout)
        explained = synthetic.ExplainedVarianceCalculator()
        explained.add_batch(acts, acts)
        assert explained.compute() == 1.0
        assert gated.dtype == dtype
        assert gated.layout == layout.layout
        assert gated.to_dense().tolist() == synthetic.hierarchy_modifier(tree)(wide).tolist()


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_numbers_without_dimensions_are_numbers(kind: Callable[[object], Any]) -> None:
    three, half, yes = kind(3), kind(0.5), kind(True)
    generator = synthetic.ActivationGenerator(three, 0.5, use_sparse_tensors=yes)
    assert generator.sample(three, seed=three).shape == (3, 3)
    dictionary = synthetic.FeatureDictionary(three, three, half, None)
    assert float(dictionary.bias.detach().norm()) == pytest.approx(0.5)
    assert float(
        synthetic.FeatureDictionary(3, 3, yes, None).bias.detach().norm()
    ) == pytest.approx(1)
    assert synthetic.zipfian_firing_probabilities(three, half, half, kind(0.25)).shape == (3,)
    assert synthetic.HierarchyNode(three, scale_children_by_parent=yes).feature_index == 3
    for wrong in (kind(3.0), kind([3])):
        with pytest.raises(TypeError, match="num_features must be an integer, got "):
            synthetic.ActivationGenerator(wrong, 0.5)
