"""The controller on simulated answers of an SAE."""

from __future__ import annotations

import json
import math
import random

import pytest

from synthkern.sae import SparsityController


def simulate(
    controller: SparsityController,
    steps: int,
    *,
    slope: float = 1.0,
    lag: float = 300.0,
    noise: float = 0.0,
    l0: float = 2000.0,
) -> list[float]:
    """L0 goes to 60 * coefficient ** -slope over ``lag`` steps, in logarithms."""
    random_numbers = random.Random(0)
    seen = []
    for _ in range(steps):
        goal = math.log(60.0) - slope * math.log(controller.coefficient)
        l0 = math.exp(math.log(l0) + (goal - math.log(l0)) / lag)
        seen.append(l0 * math.exp(noise * random_numbers.gauss(0, 1)))
        controller.update(seen[-1])
    return seen


@pytest.mark.parametrize("target", [5.0, 20.0, 25.0, 300.0])
@pytest.mark.parametrize("start", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("slope", "lag"), [(1.0, 300.0), (0.5, 300.0), (1.5, 50.0), (1.0, 1.0)])
def test_it_arrives_and_stays(target: float, start: float, slope: float, lag: float) -> None:
    seen = simulate(SparsityController(target, start), 8000, slope=slope, lag=lag)
    assert all(value == pytest.approx(target, rel=0.01) for value in seen[-1000:])


def test_it_does_not_swing() -> None:
    seen = simulate(SparsityController(25.0, 1.0), 8000, lag=300.0, l0=60.0)
    assert min(seen) > 25.0 * 0.9


def test_noise_of_a_batch_is_not_amplified() -> None:
    controller = SparsityController(25.0, 1.0)
    simulate(controller, 5000, noise=0.05)
    before = controller.coefficient
    simulate(controller, 1000, noise=0.05, l0=25.0)
    # 60 / 25 is where the answer meets the target; the noise is 5%.
    assert before == pytest.approx(2.4, rel=0.1)
    assert controller.coefficient == pytest.approx(2.4, rel=0.1)


def test_it_goes_on_from_its_state() -> None:
    one = SparsityController(25.0, 1.0)
    simulate(one, 50)
    other = SparsityController(25.0, 1.0)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.coefficient == one.coefficient
    assert [one.update(40.0), one.update(30.0)] == [other.update(40.0), other.update(30.0)]


def test_nothing_active_lowers_the_coefficient_and_bounds_hold() -> None:
    controller = SparsityController(25.0, 1.0, rate=1.0)
    assert controller.update(0.0) < 1.0
    for _ in range(50):
        controller.update(0.0)
    assert controller.coefficient == pytest.approx(1e-4)


def test_refusals() -> None:
    for fields, text in (
        ({"target_l0": 0, "coefficient": 1}, "target_l0 must be a finite number > 0"),
        ({"target_l0": 1, "coefficient": -1}, "coefficient must be a finite number > 0"),
        ({"target_l0": 1, "coefficient": 1, "smoothing": 1}, "smoothing must be below 1, got 1"),
    ):
        with pytest.raises(ValueError, match=text):
            SparsityController(**fields)
    with pytest.raises(ValueError, match="l0 must be a finite number >= 0, got nan"):
        SparsityController(25.0, 1.0).update(math.nan)
    with pytest.raises(ValueError, match="state has unknown keys"):
        SparsityController(25.0, 1.0).load_state_dict({"x": 1.0})
