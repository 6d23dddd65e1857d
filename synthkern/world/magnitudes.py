"""How strongly each feature fires: means or standard deviations, one number per feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_float, as_int, is_number, plain_fields
from synthkern.world.probabilities import generator_of, random_normals
from synthkern.world.registry import GeneratorConfig, Registry, named


@dataclass
class MagnitudeConfig(GeneratorConfig):
    """Base class of the recipes for magnitudes.

    Example:
        >>> import synthkern as synthetic
        >>> data = {"generator_name": "linear", "start": 1.0, "end": 2.0}
        >>> config = synthetic.MagnitudeConfig.from_dict(data)
        >>> config
        LinearMagnitudeConfig(start=1.0, end=2.0)
        >>> config.generate(num_features=3)
        tensor([1.0000, 1.5000, 2.0000])
    """

    @classmethod
    def _registry(cls) -> Registry[Any]:
        return MAGNITUDE_REGISTRY


@dataclass
class ConstantMagnitudeConfig(MagnitudeConfig):
    """The same magnitude for every feature.

    A mean below zero is meaningful: what fires above zero is then the tail of its normal.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.ConstantMagnitudeConfig(value=2.0).generate(num_features=3)
        tensor([2., 2., 2.])
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("value", self.value)

    generator_name = named("constant")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The magnitudes, float32 [num_features]; nothing about them is random."""
        n = as_int("num_features", num_features, low=0)
        return torch.full((n,), float(self.value), dtype=torch.float32, device="cpu")


@dataclass
class _FromStartToEnd(MagnitudeConfig):
    start: float
    end: float

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("start", self.start, low=0, open_low=True)
        as_float("end", self.end, low=0, open_low=True)


@dataclass
class LinearMagnitudeConfig(_FromStartToEnd):
    """Magnitudes spaced evenly from ``start`` to ``end``, both above 0.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.LinearMagnitudeConfig(start=1.0, end=2.0).generate(num_features=3)
        tensor([1.0000, 1.5000, 2.0000])
    """

    generator_name = named("linear")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The magnitudes, float32 [num_features]; nothing about them is random."""
        n = as_int("num_features", num_features, low=0)
        return torch.linspace(self.start, self.end, n, dtype=torch.float32, device="cpu")


@dataclass
class ExponentialMagnitudeConfig(_FromStartToEnd):
    """Magnitudes in geometric progression from ``start`` to ``end``, both above 0.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.ExponentialMagnitudeConfig(start=1.0, end=4.0).generate(num_features=3)
        tensor([1., 2., 4.])
    """

    generator_name = named("exponential")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The magnitudes, float32 [num_features]; nothing about them is random."""
        n = as_int("num_features", num_features, low=0)
        share = torch.linspace(0, 1, n, dtype=torch.float64, device="cpu")
        return (self.start * (self.end / self.start) ** share).to(torch.float32)


@dataclass
class FoldedNormalMagnitudeConfig(MagnitudeConfig):
    """|x| with x normal, then clamped.

    Attributes:
        mean: of the normal.
        std: its standard deviation, above 0.
        min_value: the least magnitude, at least 0, or None.
        max_value: the greatest magnitude, above 0 and at least ``min_value``, or None.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.FoldedNormalMagnitudeConfig(mean=1.0, std=0.5, max_value=1.2)
        >>> config.generate(num_features=3, seed=0)
        tensor([1.2000, 0.8533, 0.0894])
    """

    mean: float = 0.0
    std: float = 0.1
    min_value: float | None = None
    max_value: float | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("mean", self.mean)
        as_float("std", self.std, low=0, open_low=True)
        low = 0.0
        if self.min_value is not None:
            low = as_float("min_value", self.min_value, low=0)
        if self.max_value is not None:
            as_float("max_value", self.max_value, low=low, open_low=low == 0)

    generator_name = named("folded_normal")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The magnitudes, float32 [num_features]."""
        n = as_int("num_features", num_features, low=0)
        magnitudes = (self.mean + self.std * random_normals(n, generator=generator_of(seed))).abs()
        if self.min_value is None and self.max_value is None:
            return magnitudes
        return magnitudes.clamp(self.min_value, self.max_value)


#: The classes of magnitudes by name.
MAGNITUDE_REGISTRY: Registry[type[MagnitudeConfig]] = Registry(
    kind="magnitude", base=MagnitudeConfig
)


def register_magnitude(name: str, config_class: type[MagnitudeConfig]) -> None:
    """Make ``name`` stand for a class of magnitudes in :meth:`from_dict`.

    Raises:
        ValueError: where the name is taken; lists the known ones.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> class DescendingMagnitudeConfig(synthetic.MagnitudeConfig):
        ...     @classmethod
        ...     def generator_name(cls):
        ...         return "descending"
        ...     def generate(self, num_features, seed=None):
        ...         return torch.arange(num_features, 0.0, -1.0)
        >>> synthetic.register_magnitude("descending", DescendingMagnitudeConfig)
        >>> synthetic.MagnitudeConfig.from_dict({"generator_name": "descending"}).generate(3)
        tensor([3., 2., 1.])
    """
    MAGNITUDE_REGISTRY.register(name, config_class)


def get_magnitude_class(name: str) -> type[MagnitudeConfig]:
    """The class that ``name`` stands for.

    Raises:
        ValueError: where the name is unknown; lists the known ones.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.get_magnitude_class("exponential")(start=1.0, end=2.0)
        ExponentialMagnitudeConfig(start=1.0, end=2.0)
    """
    return MAGNITUDE_REGISTRY.get_or_raise(name)


for _class in (
    ConstantMagnitudeConfig,
    LinearMagnitudeConfig,
    ExponentialMagnitudeConfig,
    FoldedNormalMagnitudeConfig,
):
    register_magnitude(_class.generator_name(), _class)


def generate_magnitudes(
    num_features: int, config: float | MagnitudeConfig, seed: int | None = None
) -> torch.Tensor:
    """Magnitudes float32 [num_features]: the same number for all, or what a config says.

    Args:
        num_features: number of features N, at least 0.
        config: a number, or one of our configs or SAELens'.
        seed: of what a config draws; None takes torch's global generator.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.generate_magnitudes(3, 2.0)
        tensor([2., 2., 2.])
        >>> synthetic.generate_magnitudes(3, synthetic.LinearMagnitudeConfig(start=1.0, end=2.0))
        tensor([1.0000, 1.5000, 2.0000])
    """
    return as_magnitude_config("config", config).generate(num_features, seed)


def as_magnitude_config(name: str, value: Any) -> MagnitudeConfig:
    """A config as it is, SAELens' as our own; a number as the constant config."""
    config = MagnitudeConfig.adopt(value)
    if config is not None:
        return config
    if is_number(value):
        return ConstantMagnitudeConfig(as_float(name, value))
    raise TypeError(f"{name} must be a number or a MagnitudeConfig, got {value!r}")
