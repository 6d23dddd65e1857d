"""Distributions of magnitudes as configs: names, dictionaries, parameters, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from scipy.special import log_ndtr

import synthkern as synthetic
from synthkern.world.magnitude_distribution import (
    MAGNITUDE_DISTRIBUTIONS,
    as_magnitude_distribution,
)

CLASSES = {
    "normal": synthetic.NormalMagnitudeDistribution,
    "lognormal": synthetic.LognormalMagnitudeDistribution,
    "exponential": synthetic.ExponentialMagnitudeDistribution,
    "pareto": synthetic.ParetoMagnitudeDistribution,
}


def parameters(name: str, mean: float, std: float, **more: Any) -> list[float]:
    both = (torch.tensor([number], dtype=torch.float64) for number in (mean, std))
    return [float(part) for part in CLASSES[name](**more).parameters(*both)]


def test_every_name_stands_for_its_class() -> None:
    assert CLASSES == MAGNITUDE_DISTRIBUTIONS
    for name, kind in CLASSES.items():
        assert as_magnitude_distribution("x", name) == kind()


@pytest.mark.parametrize("name", CLASSES)
def test_a_config_goes_through_json(name: str) -> None:
    given = CLASSES[name](correlation=0.25)
    cfg = synthetic.SyntheticModelConfig(8, 4, magnitude_distribution=given, seed=0)
    same = synthetic.SyntheticModelConfig.from_dict(json.loads(json.dumps(cfg.to_dict())))
    assert same == cfg
    assert same.magnitude_distribution == given


def test_a_distribution_that_is_its_name_is_written_as_that() -> None:
    cfg = synthetic.SyntheticModelConfig(
        8, 4, magnitude_distribution=synthetic.ParetoMagnitudeDistribution()
    )
    assert cfg.to_dict()["magnitude_distribution"] == "pareto"
    plain = synthetic.SyntheticModelConfig(
        8, 4, magnitude_distribution={"name": "normal", "correlation": 0}
    )
    assert "magnitude_distribution" not in plain.to_dict()


def test_parameters_are_those_of_the_closed_forms() -> None:
    assert parameters("normal", 2.0, 3.0) == [2, 3]
    variance = math.log(1 + 9 / 4)
    expected = [math.log(2) - variance / 2, math.sqrt(variance)]
    assert parameters("lognormal", 2.0, 3.0) == pytest.approx(expected, rel=1e-15)
    assert parameters("exponential", 3.0, 2.0) == [1, 2]
    # mean / std = sqrt(3): alpha = 1 + 2.
    expected = [math.log(math.sqrt(3) * 2 / 3), 1 / 3]
    assert parameters("pareto", math.sqrt(3), 1.0) == pytest.approx(expected, rel=1e-15)
    expected = [math.log(3.0 / 5), 2 / 5]
    assert parameters("pareto", 1.0, 99.0, alpha=2.5) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("name", ["lognormal", "exponential", "pareto"])
def test_without_deviation_magnitudes_are_their_mean(name: str) -> None:
    mean = torch.tensor([0.5, 1.0, 2.75, 1e5])
    generator = synthetic.ActivationGenerator(4, 1.0, 0.0, mean, magnitude_distribution=name)
    # A logarithm of 11.5 is rounded by 4.8e-7, of which exp makes as much of the value.
    torch.testing.assert_close(generator.sample(2, seed=0), mean.expand(2, -1), rtol=6e-7, atol=0)


def test_pareto_deviation_is_that_of_alpha() -> None:
    mean = torch.tensor([2.0], dtype=torch.float64)
    assert float(synthetic.ParetoMagnitudeDistribution(2.5).deviation(mean, mean)) == (
        pytest.approx(2 / math.sqrt(2.5 * 0.5))
    )
    assert float(synthetic.ParetoMagnitudeDistribution(2).deviation(mean, mean)) == math.inf
    assert float(synthetic.ParetoMagnitudeDistribution().deviation(mean, 3 * mean)) == 6


def generator(name: Any, mean: Any = 1.0, std: Any = 0.5) -> synthetic.ActivationGenerator:
    return synthetic.ActivationGenerator(3, 0.5, std, mean, magnitude_distribution=name)


@pytest.mark.parametrize("name", ["lognormal", "exponential", "pareto"])
@pytest.mark.parametrize("bad", [0.0, -1.5])
def test_means_must_be_above_zero(name: str, bad: float) -> None:
    text = rf"mean_firing_magnitudes must be > 0 where magnitudes are {name}, got {bad} at \[1\]"
    with pytest.raises(ValueError, match=text):
        generator(name, torch.tensor([1.0, bad, 1.0]))


def test_an_exponential_deviates_by_its_mean_at_most() -> None:
    text = r"std_firing_magnitudes must be <= mean_firing_magnitudes .* got 2.5 and 2.0 at \[2\]"
    with pytest.raises(ValueError, match=text):
        generator("exponential", 2.0, torch.tensor([1.0, 2.0, 2.5]))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("gamma", ValueError, r"must be one of \['exponential', 'lognormal', 'normal', 'pareto'"),
        (3, TypeError, "magnitude_distribution must be a name or a MagnitudeDistribution, got 3"),
        ({"name": ["normal"]}, ValueError, "must be one of"),
        ({"name": "normal", "alpha": 2}, ValueError, r"unknown keys \['alpha'\]"),
        ({"name": "pareto", "alpha": 1.0}, ValueError, "alpha must be a finite number > 1, got 1"),
        ({"name": "pareto", "alpha": float("nan")}, ValueError, "alpha must be a finite number"),
        ({"name": "normal", "correlation": 1.5}, ValueError, "correlation must be .* got 1.5"),
        ({"name": "normal", "correlation": -0.5}, ValueError, "correlation must be .* got -0.5"),
        ({"name": "normal", "correlation": "a"}, TypeError, "correlation must be a number"),
    ],
)
def test_what_is_refused(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        generator(given)
    with pytest.raises(error, match=text):
        synthetic.SyntheticModelConfig(8, 4, magnitude_distribution=given)


def test_a_magnitude_that_is_assigned_is_checked_and_nothing_changes_where_it_is_bad() -> None:
    world = generator("exponential")
    before = world.sample(4, seed=0)
    with pytest.raises(ValueError, match="std_firing_magnitudes must be <="):
        world.std_firing_magnitudes = 1.5
    assert torch.equal(world.sample(4, seed=0), before)
    world.mean_firing_magnitudes = 5.0
    assert float(world.sample(1000, seed=0).max()) > 5


@pytest.mark.parametrize("name", CLASSES)
def test_a_dtype_must_hold_the_largest_magnitude(name: str) -> None:
    def largest(dtype: str, mean: float) -> synthetic.ActivationGenerator:
        return synthetic.ActivationGenerator(
            1, 1.0, mean, mean, dtype=dtype, magnitude_distribution=CLASSES[name](correlation=0.5)
        )

    # Both normals at their ends: 8.97 sigma, of which the exponential is 43.
    end = 6.34 * math.sqrt(2)
    tail = -float(log_ndtr(-end))
    over = {
        "normal": 1 + end,
        "lognormal": math.exp(math.sqrt(math.log(2)) * end) / math.sqrt(2),
        "exponential": tail,
        "pareto": math.sqrt(2) / (1 + math.sqrt(2)) * math.exp(tail / (1 + math.sqrt(2))),
    }[name]
    limit = torch.finfo(torch.float16).max / over
    assert float(largest("float16", 0.99 * limit).sample(100, seed=0).max()) < 65504
    with pytest.raises(ValueError, match=r"must be finite in torch.float16, got .* at \[0\]"):
        largest("float16", 1.02 * limit)
    world = largest("float32", 1.02 * limit)
    with pytest.raises(ValueError, match=r"must be finite in torch.float16"):
        world.dtype = torch.float16


def test_magnitudes_that_float32_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"largest pareto magnitude .* must be finite in"):
        generator(synthetic.ParetoMagnitudeDistribution(1.01), 1e32)
    with pytest.raises(ValueError, match=r"lognormal magnitudes must stay above 1.18e-38"):
        generator("lognormal", 1e-30, 1e-28)


def test_children_that_grow_beyond_float32_are_refused() -> None:
    heavy = synthetic.ParetoMagnitudeDistribution(1.1)
    node = synthetic.HierarchyNode(3)
    for j in (2, 1, 0):
        node = synthetic.HierarchyNode(j, [node], scale_children_by_parent=True)
    modifier = synthetic.hierarchy_modifier(node)
    with pytest.raises(ValueError, match=r"must stay finite in torch.float32 where feature"):
        synthetic.ActivationGenerator(
            4, 1.0, modify_activations=[modifier] * 2, magnitude_distribution=heavy
        )
