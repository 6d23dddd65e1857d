"""Worlds whose values no float holds, and rates below the stream's resolution."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import synthkern as synthetic
from synthkern.sae import StandardTrainingSAE, StandardTrainingSAEConfig


@pytest.mark.parametrize(("mean", "std"), [(7e4, 0.0), (5e4, 1e4), (0.0, 2e4)])
def test_magnitudes_that_the_dtype_cannot_hold(mean: float, std: float) -> None:
    message = r"\+ 6.34 \* std_firing_magnitudes must be finite in torch.float16, got "
    with pytest.raises(ValueError, match=message):
        synthetic.ActivationGenerator(4, 0.5, std, mean, dtype="float16")
    world = synthetic.ActivationGenerator(4, 0.5, std, mean)
    before = world.sample(9, seed=1)
    for narrow in (
        world.half,
        lambda: world.to(torch.float16),
        lambda: setattr(world, "dtype", torch.float16),
    ):
        with pytest.raises(ValueError, match=message):
            narrow()
        assert torch.equal(world.sample(9, seed=1), before)
    assert synthetic.ActivationGenerator(4, 0.5, std, mean).bfloat16().sample(2).isfinite().all()


def test_a_dtype_that_is_set_before_there_are_magnitudes() -> None:
    class Own(synthetic.ActivationGenerator):
        def __init__(self) -> None:
            self.dtype = torch.float16
            super().__init__(4, 0.5, dtype="bfloat16")

    assert Own().sample(2).dtype == torch.bfloat16
    world = synthetic.ActivationGenerator(4, 0.5).double()
    assert pickle.loads(pickle.dumps(world)).sample(2).dtype == torch.float64


def test_magnitudes_that_overflow() -> None:
    with pytest.raises(ValueError, match=r"std_firing_magnitudes must be finite in torch.float32"):
        synthetic.ActivationGenerator(4, 0.5, 1e38, 3e38)


def chain(depth: int) -> synthetic.HierarchyNode:
    node = synthetic.HierarchyNode(depth)
    for feature in reversed(range(depth)):
        node = synthetic.HierarchyNode(feature, [node], scale_children_by_parent=True)
    return node


@pytest.mark.parametrize(
    ("depth", "mean", "std", "message"),
    [
        (1, [1e-20, 1e10], [1e20, 1.0], "feature 1 must stay finite .* where feature 0 scales"),
        (1, [1e-40, 1.0], [1.0, 0.0], "feature 1 must .* mean_firing_magnitudes is 9.99"),
        (3, [1.0] * 4, [1e13] * 4, "feature 2 must .* where feature 1 scales it"),
    ],
)
def test_scaling_that_overflows(
    depth: int, mean: list[float], std: list[float], message: str
) -> None:
    trees = synthetic.hierarchy_modifier(chain(depth))
    for modifiers in (trees, [lambda x: x, trees]):
        with pytest.raises(ValueError, match=message):
            synthetic.ActivationGenerator(depth + 1, 0.9, std, mean, modifiers)


def test_scaling_that_overflows_the_dtype_or_in_two_hierarchies() -> None:
    trees = synthetic.hierarchy_modifier(chain(1))
    world = synthetic.ActivationGenerator(2, 0.9, 100.0, 1.0, trees)
    with pytest.raises(ValueError, match=r"feature 1 must stay finite in torch.float16 where"):
        world.half()
    with pytest.raises(ValueError, match=r"feature 1 must stay finite in torch.float32 where"):
        synthetic.ActivationGenerator(2, 0.9, 1e12, 1.0, [trees] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite(bad: float) -> None:
    given = torch.ones(2, 3), torch.ones(3)
    for value, name in zip(given, ("feature_vectors", "bias"), strict=True):
        value.flatten()[1] = bad
        with pytest.raises(ValueError, match=f"^{name} must be finite, got {bad}"):
            synthetic.FeatureDictionary.from_vectors(*given)
        value.flatten()[1] = 1


def test_vectors_that_the_dtype_cannot_hold(tmp_path: Path) -> None:
    vectors, sae = (
        torch.tensor([[0.5, 65519.0], [0.0, -1e5]]),
        StandardTrainingSAE(StandardTrainingSAEConfig(d_in=2, d_sae=3)),
    )
    dictionary = synthetic.FeatureDictionary.from_vectors(vectors, torch.zeros(2))
    world = synthetic.ActivationGenerator(2, 0.5, mean_firing_magnitudes=0.1)
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(num_features=2, hidden_dim=2), dictionary, world
    )
    with torch.no_grad():
        sae.W_dec[0] = -1e5
    for part, name in ((dictionary, "feature_vectors"), (model, "feature_vectors"), (sae, "W_dec")):
        with pytest.raises(
            ValueError, match=rf"^{name} must be finite in torch.float16, got -1000"
        ):
            part.half()
        assert {each.dtype for each in part.parameters()} == {torch.float32}
    assert world.dtype == torch.float32
    sae.save_model(tmp_path)
    with pytest.raises(ValueError, match=r"W_dec must be finite in torch.float16, got -1000"):
        StandardTrainingSAE.load_from_disk(tmp_path, dtype="float16")
    with torch.no_grad():
        dictionary.feature_vectors[1] = 0
    assert model.half().sample(9, seed=1).isfinite().all()


def test_hidden_activations_that_overflow() -> None:
    cfg = synthetic.SyntheticModelConfig(num_features=40, hidden_dim=2)
    world = synthetic.ActivationGenerator(40, 0.5, mean_firing_magnitudes=6e4)
    dictionary = synthetic.FeatureDictionary.from_vectors(torch.ones(40, 2), torch.zeros(2))
    model = synthetic.SyntheticModel(cfg, dictionary, world)
    with torch.no_grad():
        dictionary.bias.add_(6e3)
    with pytest.raises(ValueError, match=r"activations that are finite in torch.float16, .*6e\+04"):
        model.half()
    assert (world.dtype, dictionary.bias.dtype) == (torch.float32, torch.float32)
    with torch.no_grad():
        dictionary.feature_vectors.mul_(1e33)
    with pytest.raises(ValueError, match=r"finite in torch.float32, got .* to 2.4e\+39"):
        synthetic.SyntheticModel(cfg, dictionary, world)
    assert model.double().sample(9, seed=1).isfinite().all()


def test_scaling_by_tiny_means_that_stays_finite() -> None:
    world = synthetic.ActivationGenerator(
        2, 0.9, [1e-41, 0.1], [1e-40, 1.0], synthetic.hierarchy_modifier(chain(1))
    )
    assert bool(world.sample(500, seed=1).isfinite().all())


def test_rates_below_the_streams_resolution_are_zero() -> None:
    rates = synthetic.effective_firing_probabilities(synthetic.ActivationGenerator(4, 1e-13))
    assert rates.probabilities.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("std", lambda tiny: synthetic.FoldedNormalMagnitudeConfig(std=tiny)),
        ("start", lambda tiny: synthetic.LinearMagnitudeConfig(tiny, 1.0)),
        ("min_prob", lambda tiny: synthetic.LinearFiringProbabilityConfig(0.5, tiny)),
    ],
)
def test_numbers_above_zero_that_round_to_it(name: str, make: Callable[[float], object]) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be > 0 in float32, got 7e-46"):
        make(7e-46)
    make(8e-46)
