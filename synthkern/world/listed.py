"""Probabilities and magnitudes that are listed, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_float, as_int, plain_fields
from synthkern.world.magnitudes import MagnitudeConfig, register_magnitude
from synthkern.world.probabilities import FiringProbabilityConfig, register_firing_probability
from synthkern.world.registry import named


@dataclass
class ListedFiringProbabilityConfig(FiringProbabilityConfig):
    """Probabilities in [0, 1], one for each feature: a list, an array or a tensor [N].

    Example:
        >>> import synthkern as synthetic
        >>> firing = synthetic.ListedFiringProbabilityConfig([0.5, 0.25])
        >>> firing.generate(num_features=2)
        tensor([0.5000, 0.2500])
    """

    probabilities: Sequence[float]

    def __post_init__(self) -> None:
        self.probabilities = _numbers("probabilities", self.probabilities)
        plain_fields(self)
        for place, number in enumerate(self.probabilities):
            as_float(f"probabilities[{place}]", number, low=0, high=1)

    generator_name = named("listed")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The probabilities, float32 [num_features].

        Raises:
            ValueError: for another number of features than are listed.
        """
        return _generated(self.probabilities, num_features)


@dataclass
class ListedMagnitudeConfig(MagnitudeConfig):
    """Magnitudes, one for each feature: a list, an array or a tensor [N].

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.ListedMagnitudeConfig([1.0, 3.0]).generate(num_features=2)
        tensor([1., 3.])
    """

    magnitudes: Sequence[float]

    def __post_init__(self) -> None:
        self.magnitudes = _numbers("magnitudes", self.magnitudes)
        plain_fields(self)
        for place, number in enumerate(self.magnitudes):
            as_float(f"magnitudes[{place}]", number)

    generator_name = named("listed")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The magnitudes, float32 [num_features].

        Raises:
            ValueError: for another number of features than are listed.
        """
        return _generated(self.magnitudes, num_features)


def _numbers(name: str, values: Any) -> list[Any]:
    found = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(found, list | tuple):
        raise TypeError(f"{name} must be a list of numbers, got {values!r}")
    return list(found)


def _generated(values: Sequence[float], num_features: int) -> torch.Tensor:
    if as_int("num_features", num_features, low=0) != len(values):
        raise ValueError(f"num_features must be {len(values)}, as are listed, got {num_features}")
    return torch.tensor(values, dtype=torch.float32, device="cpu")


register_firing_probability("listed", ListedFiringProbabilityConfig)
register_magnitude("listed", ListedMagnitudeConfig)
