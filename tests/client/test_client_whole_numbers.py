"""Features that fire always or never, written as whole numbers and as booleans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic

KINDS = (torch.bool, torch.uint8, torch.int32, torch.int64)


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
