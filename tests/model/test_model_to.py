"""Moving a model and changing its dtype: nothing of its world is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import synthkern as synthetic

N, D = 30, 5


def model() -> synthetic.SyntheticModel:
    """A model whose every part is another than its recipe's."""
    trees = synthetic.Hierarchy(
        [synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)], scale_children_by_parent=True)]
    )
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 3, 0.2, seed=1)
    drawn = synthetic.ActivationGenerator(
        N,
        torch.linspace(0.2, 0.6, N),
        torch.linspace(0.1, 0.2, N),
        torch.linspace(1.0, 2.0, N),
        trees.modifier,
        loadings,
        use_sparse_tensors=True,
    )
    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    return synthetic.SyntheticModel(cfg, activation_generator=drawn, hierarchy=trees)


def test_to_the_same_device_changes_nothing() -> None:
    moved = model()
    drawn, plan = moved.activation_generator, moved.activation_generator.plan
    before = moved.sample(9, seed=1)
    assert moved.to("cpu") is moved
    assert moved.activation_generator is drawn
    assert drawn.plan is plan
    assert moved.device == torch.device("cpu")
    assert torch.equal(moved.sample(9, seed=1), before)


def test_to_another_device_takes_everything_along() -> None:
    moved = model()
    drawn = moved.activation_generator
    moved.to("meta")
    meta = torch.device("meta")
    assert moved.activation_generator is drawn
    assert moved.device == drawn.device == meta
    assert moved.use_sparse_tensors
    assert {parameter.device for parameter in moved.parameters()} == {meta}
    assert drawn.firing_probabilities.device == meta
    assert drawn.mean_firing_magnitudes.device == drawn.std_firing_magnitudes.device == meta
    assert moved.correlation_matrix is not None
    assert {part.device for part in moved.correlation_matrix} == {meta}
    assert drawn.plan.factor.device == drawn.plan.threshold.device == meta
    assert {forest.feature.device for forest in drawn.plan.forests} == {meta}


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda m: m.half(), torch.float16),
        (lambda m: m.bfloat16(), torch.bfloat16),
        (lambda m: m.double(), torch.float64),
        (lambda m: m.to(torch.float16), torch.float16),
        (lambda m: m.to("cpu", torch.float64), torch.float64),
        (lambda m: m.half().float(), torch.float32),
    ],
    ids=["half", "bfloat16", "double", "to float16", "to float64", "there and back"],
)
def test_a_dtype_is_that_of_what_is_sampled(
    backend: str, change: Callable[[torch.nn.Module], torch.nn.Module], dtype: torch.dtype
) -> None:
    plain, moved = model(), model()
    plan = moved.activation_generator.plan
    change(moved)
    entries = plain.sample_sparse(9, seed=1)
    hidden, features = moved.sample_with_features(9, seed=1)
    assert hidden.dtype == features.dtype == dtype
    # The world is not touched: float32 features, rounded once.
    assert moved.activation_generator.plan is plan
    assert features.is_sparse
    assert torch.equal(features.to_dense(), entries.to_dense(dtype))
    assert torch.equal(hidden, change(plain.feature_dict)(entries))
