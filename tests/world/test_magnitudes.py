"""Magnitudes: the laws and what they refuse."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

import synthkern as synthetic

NAN, INF = float("nan"), float("inf")
EPS = torch.finfo(torch.float32).eps

Constant = synthetic.ConstantMagnitudeConfig
Linear = synthetic.LinearMagnitudeConfig
Exponential = synthetic.ExponentialMagnitudeConfig
Folded = synthetic.FoldedNormalMagnitudeConfig


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Constant(), [1.0, 1.0, 1.0]),
        (Constant(-2), [-2.0, -2.0, -2.0]),
        (Linear(5.0, 4.0), [5.0, 4.5, 4.0]),
        (Linear(0.5, 1), [0.5, 0.75, 1.0]),
        (Exponential(1.0, 4.0), [1.0, 2.0, 4.0]),
        (Exponential(0.5, 0.005), [0.5, 0.05, 0.005]),
        (Folded(-3.0, 1e-30), [3.0, 3.0, 3.0]),
        (Folded(3.0, 1e-30, max_value=2.0), [2.0, 2.0, 2.0]),
        (Folded(3.0, 1e-30, min_value=4), [4.0, 4.0, 4.0]),
    ],
    ids=repr,
)
def test_laws_by_hand(config: synthetic.MagnitudeConfig, expected: list[float]) -> None:
    magnitudes = config.generate(3)
    assert magnitudes.dtype == torch.float32
    # One rounding to float32 of each number.
    torch.testing.assert_close(magnitudes, torch.tensor(expected), rtol=EPS, atol=0)
    # A single feature gets the beginning.
    torch.testing.assert_close(config.generate(1), torch.tensor(expected[:1]), rtol=EPS, atol=0)


def test_folded_normal_has_the_moments_of_its_normal() -> None:
    n, mean, std = 100_000, 0.5, 0.5
    magnitudes = Folded(mean, std).generate(n, seed=1)
    assert bool((magnitudes >= 0).all())
    # |x| has the same square as x, whose expectation is mean**2 + std**2 and whose variance is
    # 2 std**4 + 4 mean**2 std**2; 5 sigma.
    square = float(magnitudes.double().square().mean())
    sigma = math.sqrt((2 * std**4 + 4 * mean**2 * std**2) / n)
    assert abs(square - (mean**2 + std**2)) < 5 * sigma
    # P(|x| < mean) = Phi(0) - Phi(-2 mean / std); 5 sigma of a binomial share.
    share = float((magnitudes < mean).double().mean())
    expected = 0.5 * math.erf(2 * mean / std / math.sqrt(2))
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


def test_folded_normal_is_clamped() -> None:
    plain = Folded(0.0, 1.0).generate(1000, seed=2)
    clamped = Folded(0.0, 1.0, min_value=0.5, max_value=1.5).generate(1000, seed=2)
    assert torch.equal(clamped, plain.clamp(0.5, 1.5))
    assert not torch.equal(clamped, plain)


def test_folded_normal_follows_its_seed_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    first = Folded().generate(50, seed=7)
    assert torch.equal(first, Folded().generate(50, seed=7))
    assert not torch.equal(first, Folded().generate(50, seed=8))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    unseeded = Folded().generate(50)
    torch.manual_seed(3)
    assert torch.equal(Folded().generate(50), unseeded)


def test_generate_magnitudes_takes_a_number_or_a_config() -> None:
    assert torch.equal(synthetic.generate_magnitudes(3, 0.25), torch.full((3,), 0.25))
    assert torch.equal(synthetic.generate_magnitudes(3, 2), torch.full((3,), 2.0))
    assert torch.equal(
        synthetic.generate_magnitudes(9, Folded(1.0, 2.0), seed=4), Folded(1.0, 2.0).generate(9, 4)
    )


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (NAN, ValueError, "nan"),
        (INF, ValueError, "inf"),
        ("1", TypeError, "'1'"),
        (True, TypeError, "True"),
        (None, TypeError, "None"),
    ],
)
def test_generate_magnitudes_refuses(value: Any, error: type[Exception], shown: str) -> None:
    with pytest.raises(error, match=rf"^config must .*got {shown}$"):
        synthetic.generate_magnitudes(3, value)


@pytest.mark.parametrize("size", [-1, 1.0, True])
@pytest.mark.parametrize(
    "config", [Constant(), Linear(1, 2), Exponential(1, 2), Folded()], ids=repr
)
def test_bad_sizes_are_refused(config: synthetic.MagnitudeConfig, size: Any) -> None:
    error = ValueError if type(size) is int else TypeError
    with pytest.raises(error, match=rf"^num_features must .*got {size!r}$"):
        config.generate(size)


@pytest.mark.parametrize(
    ("config", "others", "name", "values"),
    [
        (Constant, {}, "value", [NAN, -INF]),
        (Linear, {"end": 1}, "start", [-0.5, NAN]),
        (Linear, {"start": 1}, "end", [-0.5, INF]),
        (Exponential, {"end": 1}, "start", [0.0, -1.0, INF]),
        (Exponential, {"start": 1}, "end", [0.0, NAN]),
        (Folded, {}, "mean", [NAN, INF]),
        (Folded, {}, "std", [-0.1, NAN, INF]),
        (Folded, {}, "min_value", [-0.1, NAN]),
        (Folded, {}, "max_value", [-0.1, INF]),
        (Folded, {"min_value": 2.0}, "max_value", [1.5]),
    ],
)
def test_bad_numbers_are_refused(
    config: Any, others: dict[str, Any], name: str, values: list[float]
) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} must .*got {value}$"):
            config(**others, **{name: value})


@pytest.mark.parametrize("value", ["1", True, None, [1.0]])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (Constant, "value"),
        (lambda start: Linear(start, 1), "start"),
        (lambda end: Linear(1, end), "end"),
        (lambda start: Exponential(start, 1), "start"),
        (lambda end: Exponential(1, end), "end"),
        (Folded, "mean"),
        (Folded, "std"),
    ],
)
def test_wrong_types_are_refused(config: Any, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
        config(**{name: value})
