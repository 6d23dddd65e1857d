"""The two families of configs by name: registering, finding, and dictionaries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

import synthkern as synthetic
from synthkern.world import magnitudes, probabilities


class Family(NamedTuple):
    """The public names of one family."""

    base: Any
    register: Callable[[str, Any], None]
    find: Callable[[str], Any]
    known: list[str]
    other: type


@pytest.fixture(params=["probability", "magnitude"])
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    """One of the two families; what a test registers is forgotten after it."""
    registry: dict[str, Any] = {
        "probability": probabilities.FIRING_PROB_REGISTRY,
        "magnitude": magnitudes.MAGNITUDE_REGISTRY,
    }[request.param]
    before = dict(registry)
    if request.param == "probability":
        yield Family(
            synthetic.FiringProbabilityConfig,
            synthetic.register_firing_probability,
            synthetic.get_firing_probability_class,
            ["constant", "linear", "listed", "random", "zipfian"],
            synthetic.ConstantMagnitudeConfig,
        )
    else:
        yield Family(
            synthetic.MagnitudeConfig,
            synthetic.register_magnitude,
            synthetic.get_magnitude_class,
            ["constant", "exponential", "folded_normal", "linear", "listed"],
            synthetic.ConstantFiringProbabilityConfig,
        )
    registry.clear()
    registry.update(before)


def test_the_known_names(family: Family) -> None:
    for name in family.known:
        assert family.find(name).generator_name() == name
        assert issubclass(family.find(name), family.base)


@pytest.mark.parametrize("name", ["Zipfian", "", None])
def test_an_unknown_name_is_refused_with_the_known_ones(family: Family, name: Any) -> None:
    message = rf"^name must be .*got {name!r}; known are {re.escape(str(family.known))}$"
    with pytest.raises(ValueError, match=message):
        family.find(name)
    with pytest.raises(ValueError, match=message):
        family.base.from_dict({"generator_name": name})


def test_a_name_is_taken_once(family: Family) -> None:
    before = family.find("constant")
    message = rf"^name must be .*got 'constant'; known are {re.escape(str(family.known))}$"
    with pytest.raises(ValueError, match=message):
        family.register("constant", family.find("linear"))
    assert family.find("constant") is before


def test_what_is_no_class_of_the_family_is_refused(family: Family) -> None:
    for wrong in (int, "linear", family.other):
        shown = re.escape(repr(wrong))
        with pytest.raises(
            TypeError, match=rf"^config_class must .*{family.base.__name__}, got {shown}$"
        ):
            family.register("mine", wrong)
    with pytest.raises(ValueError, match="got 'mine'"):
        family.find("mine")


def test_a_registered_class_is_found_and_round_trips(family: Family) -> None:
    @dataclass
    class Mine(family.base):  # type: ignore[misc]
        level: float = 0.25

        @classmethod
        def generator_name(cls) -> str:
            return "mine"

        def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
            return torch.full((num_features,), self.level)

    family.register("mine", Mine)
    assert family.find("mine") is Mine
    config = Mine(0.75)
    assert config.to_dict() == {"level": 0.75, "generator_name": "mine"}
    assert family.base.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"got 'mine'.*known are .*'mine'"):
        family.register("mine", Mine)


def test_base_classes_generate_nothing(family: Family) -> None:
    with pytest.raises(TypeError, match="abstract"):
        family.base()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (["linear"], TypeError, r"^d must be a mapping, got \['linear'\]$"),
        (None, TypeError, r"^d must be a mapping, got None$"),
        ({"start": 1}, ValueError, r"^d must have the key 'generator_name', got \['start'\]$"),
        (
            {"generator_name": "constant", "start": 1, "stop": 2},
            ValueError,
            r"^d has unknown keys \['start', 'stop'\]; known are \['(probability|value)'\]$",
        ),
    ],
)
def test_bad_dictionaries_are_refused(
    family: Family,
    data: Any,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        family.base.from_dict(data)


def test_numbers_in_a_dictionary_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^exponent must .*got -1\.0$"):
        synthetic.FiringProbabilityConfig.from_dict({"generator_name": "zipfian", "exponent": -1})
    with pytest.raises(ValueError, match=r"^start must .*got nan$"):
        synthetic.MagnitudeConfig.from_dict(
            {"generator_name": "linear", "start": float("nan"), "end": 1.0}
        )


def test_a_name_of_another_class_is_refused() -> None:
    data = synthetic.LinearFiringProbabilityConfig().to_dict()
    message = r"^generator_name must stand for a ZipfianFiringProbabilityConfig, got 'linear'$"
    with pytest.raises(ValueError, match=message):
        synthetic.ZipfianFiringProbabilityConfig.from_dict(data)
