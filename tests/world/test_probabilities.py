"""Firing probabilities: the laws, their configs and what they refuse."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import synthkern as synthetic

NAN, INF = float("nan"), float("inf")
EPS = torch.finfo(torch.float32).eps

zipfian = synthetic.zipfian_firing_probabilities
linear = synthetic.linear_firing_probabilities
uniform = synthetic.random_firing_probabilities


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        # Laws 1, 1/2, 1/3 and 1, 1/4, 1/9: their middles lie 1/4 and 5/32 of the way up.
        (1.0, [0.6, 0.1 + 0.5 / 4, 0.1]),
        (2.0, [0.6, 0.1 + 0.5 * 5 / 32, 0.1]),
        # In the limit of a small exponent the law falls with the logarithm of the rank.
        (1e-20, [0.6, 0.6 - 0.5 * math.log(2) / math.log(3), 0.1]),
        # In the limit of a large one nothing is left past the first.
        (1e30, [0.6, 0.1, 0.1]),
    ],
)
def test_zipfian_by_hand(exponent: float, expected: list[float]) -> None:
    probabilities = zipfian(3, exponent, max_prob=0.6, min_prob=0.1)
    # One rounding to float32.
    torch.testing.assert_close(probabilities, torch.tensor(expected), rtol=EPS, atol=0)


@pytest.mark.parametrize("num_features", [2, 3, 1023])
@pytest.mark.parametrize("law", [zipfian, linear])
def test_laws_fall_from_exactly_max_to_exactly_min(
    law: Callable[..., torch.Tensor], num_features: int
) -> None:
    probabilities = law(num_features, max_prob=0.7, min_prob=0.003)
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == (num_features,)
    assert probabilities[0] == torch.tensor(0.7)
    assert probabilities[-1] == torch.tensor(0.003)
    assert bool((probabilities.diff() < 0).all())


@pytest.mark.parametrize("law", [zipfian, linear])
def test_a_single_feature_gets_the_maximum(law: Callable[..., torch.Tensor]) -> None:
    assert law(1).tolist() == [torch.tensor(0.3).item()]


def test_linear_by_hand() -> None:
    expected = torch.tensor([0.5, 0.375, 0.25, 0.125])
    assert torch.equal(linear(4, max_prob=0.5, min_prob=0.125), expected)


def test_random_is_uniform() -> None:
    n = 100_000
    probabilities = uniform(n, max_prob=0.5, min_prob=0.1, seed=1)
    assert probabilities.dtype == torch.float32
    assert 0.1 <= probabilities.min() < 0.1 + 1e-3
    assert 0.5 - 1e-3 < probabilities.max() <= 0.5
    # The mean of n uniforms on [0.1, 0.5] has standard deviation 0.4 / sqrt(12 n); 5 sigma.
    assert abs(float(probabilities.mean()) - 0.3) < 5 * 0.4 / math.sqrt(12 * n)
    # Kolmogorov's statistic exceeds 2 / sqrt(n) with probability 7e-4.
    places = (probabilities.double().sort().values - 0.1) / 0.4
    ranks = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert float((places - ranks).abs().max()) < 2 / math.sqrt(n)


def test_random_follows_its_seed_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    first = uniform(50, seed=7)
    assert torch.equal(first, uniform(50, seed=7))
    assert not torch.equal(first, uniform(50, seed=8))
    assert torch.equal(torch.get_rng_state(), state)


def test_random_without_seed_follows_the_global_generator() -> None:
    torch.manual_seed(3)
    first, second = uniform(50), uniform(50)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(uniform(50), first)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (synthetic.ZipfianFiringProbabilityConfig(), zipfian(9, 1.0, 0.3, 0.01)),
        (synthetic.ZipfianFiringProbabilityConfig(0.5, 0.4, 0.1), zipfian(9, 0.5, 0.4, 0.1)),
        (synthetic.LinearFiringProbabilityConfig(), linear(9, 0.3, 0.01)),
        (synthetic.LinearFiringProbabilityConfig(0.2, 0.2), linear(9, 0.2, 0.2)),
        (synthetic.RandomFiringProbabilityConfig(), uniform(9, 0.5, 0.01, seed=5)),
        (synthetic.RandomFiringProbabilityConfig(0.9, 0.8), uniform(9, 0.9, 0.8, seed=5)),
        (synthetic.ConstantFiringProbabilityConfig(), torch.full((9,), 0.1)),
        (synthetic.ConstantFiringProbabilityConfig(0), torch.zeros(9)),
        (synthetic.ConstantFiringProbabilityConfig(1), torch.ones(9)),
    ],
    ids=repr,
)
def test_configs_generate_their_law(
    config: synthetic.FiringProbabilityConfig, expected: torch.Tensor
) -> None:
    generated = config.generate(9, seed=5)
    assert generated.dtype == torch.float32
    assert torch.equal(generated, expected)


Bad = tuple[dict[str, float], str, list[Any], type[Exception]]

#: What else is given, the argument that is wrong, and what it must not be.
BAD_BOUNDS: list[Bad] = [
    ({}, "max_prob", [0.0, 1.5, NAN, INF], ValueError),
    ({}, "max_prob", ["1", True], TypeError),
    ({}, "min_prob", [0.0, -0.1, NAN, -INF], ValueError),
    ({}, "min_prob", [None], TypeError),
    ({"max_prob": 0.2}, "min_prob", [0.25], ValueError),
]
BAD_ZIPFIAN: list[Bad] = [
    *BAD_BOUNDS,
    ({"max_prob": 0.25}, "min_prob", [0.25], ValueError),
    ({}, "exponent", [0.0, -1.0, NAN, INF], ValueError),
    ({}, "exponent", [[1]], TypeError),
]


@pytest.mark.parametrize(
    ("law", "config", "bad"),
    [(zipfian, synthetic.ZipfianFiringProbabilityConfig, bad) for bad in BAD_ZIPFIAN]
    + [(linear, synthetic.LinearFiringProbabilityConfig, bad) for bad in BAD_BOUNDS]
    + [(uniform, synthetic.RandomFiringProbabilityConfig, bad) for bad in BAD_BOUNDS],
)
def test_bad_numbers_are_refused_by_function_and_config(
    law: Callable[..., torch.Tensor],
    config: Callable[..., Any],
    bad: Bad,
) -> None:
    others, name, values, error = bad
    for value in values:
        for make in (partial(law, 5), config):
            with pytest.raises(error, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
                make(**others, **{name: value})


@pytest.mark.parametrize(
    ("probability", "error"),
    [(-0.1, ValueError), (1.1, ValueError), (NAN, ValueError), (INF, ValueError), ("a", TypeError)],
)
def test_constant_config_refuses(probability: Any, error: type[Exception]) -> None:
    message = rf"^probability must .*got {re.escape(repr(probability))}$"
    with pytest.raises(error, match=message):
        synthetic.ConstantFiringProbabilityConfig(probability)


@pytest.mark.parametrize("law", [zipfian, linear, uniform])
def test_bad_sizes_are_refused(law: Callable[..., torch.Tensor]) -> None:
    for size in (0, -3, 2.0, True, "4"):
        error = ValueError if type(size) is int else TypeError
        with pytest.raises(error, match=rf"^num_features must .*got {re.escape(repr(size))}$"):
            law(size)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**64, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_bad_seeds_are_refused(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^seed must .*got {re.escape(repr(seed))}$"):
        uniform(3, seed=seed)


def test_the_greatest_seed_is_taken() -> None:
    assert torch.equal(uniform(9, seed=2**64 - 1), uniform(9, seed=2**64 - 1))
