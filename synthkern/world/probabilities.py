"""How often each feature is meant to fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_float, as_int, as_seed, plain_fields
from synthkern.world.registry import GeneratorConfig, Registry, named


def zipfian_firing_probabilities(
    num_features: int, exponent: float = 1.0, max_prob: float = 0.3, min_prob: float = 0.01
) -> torch.Tensor:
    """Probabilities that fall with the rank as 1 / rank**exponent.

    The law is rescaled affinely so that the first probability is ``max_prob`` and the last
    ``min_prob``; a single feature gets ``max_prob``.

    Args:
        num_features: number of features N, at least 1.
        exponent: above 0.
        max_prob: in (min_prob, 1].
        min_prob: in (0, max_prob).

    Returns:
        float32 [N], descending.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.zipfian_firing_probabilities(4, max_prob=0.3, min_prob=0.1)
        tensor([0.3000, 0.1667, 0.1222, 0.1000])
    """
    n, exponent = as_int("num_features", num_features, low=1), _exponent(exponent)
    top, bottom = _bounds(max_prob, min_prob, distinct=True)
    if n == 1:
        return torch.tensor([top], dtype=torch.float32, device="cpu")
    # 1 / rank**exponent - 1, which the rescaling takes no notice of and which stays exact where
    # the exponent is so small that the law itself rounds to 1 everywhere.
    law = torch.expm1(-exponent * torch.arange(1, n + 1, dtype=torch.float64, device="cpu").log())
    share = (law - law[-1]) / (law[0] - law[-1])
    return (bottom + (top - bottom) * share).to(torch.float32)


def linear_firing_probabilities(
    num_features: int, max_prob: float = 0.3, min_prob: float = 0.01
) -> torch.Tensor:
    """Probabilities spaced evenly from ``max_prob`` down to ``min_prob``: float32 [N].

    Args:
        num_features: number of features N, at least 1; a single one gets ``max_prob``.
        max_prob: in [min_prob, 1].
        min_prob: in (0, max_prob].

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.linear_firing_probabilities(3, max_prob=0.3, min_prob=0.1)
        tensor([0.3000, 0.2000, 0.1000])
    """
    n = as_int("num_features", num_features, low=1)
    top, bottom = _bounds(max_prob, min_prob)
    return torch.linspace(top, bottom, n, dtype=torch.float32, device="cpu")


def random_firing_probabilities(
    num_features: int, max_prob: float = 0.5, min_prob: float = 0.01, seed: int | None = None
) -> torch.Tensor:
    """Probabilities uniform in [min_prob, max_prob]: float32 [N].

    Args:
        num_features: number of features N, at least 1.
        max_prob: in (min_prob, 1].
        min_prob: in (0, max_prob).
        seed: of a generator of this call's own; None takes torch's global one.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.random_firing_probabilities(3, max_prob=0.3, min_prob=0.1, seed=0)
        tensor([0.1993, 0.2536, 0.1177])
    """
    n = as_int("num_features", num_features, low=1)
    top, bottom = _bounds(max_prob, min_prob, distinct=True)
    share = torch.rand(n, generator=generator_of(seed), dtype=torch.float32, device="cpu")
    return bottom + (top - bottom) * share


def generator_of(seed: int | None) -> torch.Generator | None:
    """A generator seeded with ``seed``, or None, which means torch's global one."""
    if seed is None:
        return None
    return torch.Generator().manual_seed(as_seed("seed", seed))


def random_normals(
    *shape: int, generator: torch.Generator | None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Standard normals on the CPU, whatever torch's defaults are."""
    return torch.randn(*shape, generator=generator, dtype=dtype, device="cpu")


@dataclass
class FiringProbabilityConfig(GeneratorConfig):
    """Base class of the recipes for firing probabilities.

    Example:
        >>> import synthkern as synthetic
        >>> data = {"generator_name": "constant", "probability": 0.2}
        >>> config = synthetic.FiringProbabilityConfig.from_dict(data)
        >>> config
        ConstantFiringProbabilityConfig(probability=0.2)
        >>> config.generate(num_features=3)
        tensor([0.2000, 0.2000, 0.2000])
    """

    @classmethod
    def _registry(cls) -> Registry[Any]:
        return FIRING_PROB_REGISTRY


@dataclass
class ZipfianFiringProbabilityConfig(FiringProbabilityConfig):
    """See :func:`zipfian_firing_probabilities`.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.ZipfianFiringProbabilityConfig(exponent=0.5, min_prob=0.1)
        >>> config.generate(num_features=4)
        tensor([0.3000, 0.1828, 0.1309, 0.1000])
    """

    exponent: float = 1.0
    max_prob: float = 0.3
    min_prob: float = 0.01

    def __post_init__(self) -> None:
        plain_fields(self)
        _exponent(self.exponent)
        _bounds(self.max_prob, self.min_prob, distinct=True)

    generator_name = named("zipfian")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The probabilities, float32 [num_features]; nothing about them is random."""
        return zipfian_firing_probabilities(
            num_features, self.exponent, self.max_prob, self.min_prob
        )


@dataclass
class LinearFiringProbabilityConfig(FiringProbabilityConfig):
    """See :func:`linear_firing_probabilities`.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.LinearFiringProbabilityConfig(max_prob=0.5, min_prob=0.1)
        >>> config.generate(num_features=3)
        tensor([0.5000, 0.3000, 0.1000])
    """

    max_prob: float = 0.3
    min_prob: float = 0.01

    def __post_init__(self) -> None:
        plain_fields(self)
        _bounds(self.max_prob, self.min_prob)

    generator_name = named("linear")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The probabilities, float32 [num_features]; nothing about them is random."""
        return linear_firing_probabilities(num_features, self.max_prob, self.min_prob)


@dataclass
class RandomFiringProbabilityConfig(FiringProbabilityConfig):
    """See :func:`random_firing_probabilities`.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.RandomFiringProbabilityConfig(max_prob=0.5, min_prob=0.1)
        >>> config.generate(num_features=3, seed=0)
        tensor([0.2985, 0.4073, 0.1354])
    """

    max_prob: float = 0.5
    min_prob: float = 0.01

    def __post_init__(self) -> None:
        plain_fields(self)
        _bounds(self.max_prob, self.min_prob, distinct=True)

    generator_name = named("random")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The probabilities, float32 [num_features]."""
        return random_firing_probabilities(num_features, self.max_prob, self.min_prob, seed)


@dataclass
class ConstantFiringProbabilityConfig(FiringProbabilityConfig):
    """The same probability, in [0, 1], for every feature.

    Example:
        >>> import synthkern as synthetic
        >>> firing = synthetic.ConstantFiringProbabilityConfig(probability=0.2)
        >>> firing.generate(num_features=3)
        tensor([0.2000, 0.2000, 0.2000])
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("probability", self.probability, low=0, high=1)

    generator_name = named("constant")

    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The probabilities, float32 [num_features]; nothing about them is random."""
        n = as_int("num_features", num_features, low=0)
        return torch.full((n,), float(self.probability), dtype=torch.float32, device="cpu")


#: The classes of firing probabilities by name.
FIRING_PROB_REGISTRY: Registry[type[FiringProbabilityConfig]] = Registry(
    kind="firing probability", base=FiringProbabilityConfig
)


def register_firing_probability(name: str, config_class: type[FiringProbabilityConfig]) -> None:
    """Make ``name`` stand for a class of firing probabilities in :meth:`from_dict`.

    Raises:
        ValueError: where the name is taken; lists the known ones.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> class GeometricFiringProbabilityConfig(synthetic.FiringProbabilityConfig):
        ...     @classmethod
        ...     def generator_name(cls):
        ...         return "geometric"
        ...     def generate(self, num_features, seed=None):
        ...         return 0.5 ** torch.arange(1.0, num_features + 1)
        >>> synthetic.register_firing_probability("geometric", GeometricFiringProbabilityConfig)
        >>> synthetic.FiringProbabilityConfig.from_dict({"generator_name": "geometric"}).generate(3)
        tensor([0.5000, 0.2500, 0.1250])
    """
    FIRING_PROB_REGISTRY.register(name, config_class)


def get_firing_probability_class(name: str) -> type[FiringProbabilityConfig]:
    """The class that ``name`` stands for.

    Raises:
        ValueError: where the name is unknown; lists the known ones.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.get_firing_probability_class("zipfian")(max_prob=0.2)
        ZipfianFiringProbabilityConfig(exponent=1.0, max_prob=0.2, min_prob=0.01)
    """
    return FIRING_PROB_REGISTRY.get_or_raise(name)


for _class in (
    ZipfianFiringProbabilityConfig,
    LinearFiringProbabilityConfig,
    RandomFiringProbabilityConfig,
    ConstantFiringProbabilityConfig,
):
    register_firing_probability(_class.generator_name(), _class)


def _exponent(value: Any) -> float:
    return as_float("exponent", value, low=0, open_low=True)


def _bounds(max_prob: Any, min_prob: Any, *, distinct: bool = False) -> tuple[float, float]:
    """The two probabilities where 0 < min_prob <= max_prob <= 1 (< where distinct)."""
    top = as_float("max_prob", max_prob, low=0, high=1, open_low=True)
    bottom = as_float("min_prob", min_prob, low=0, high=1, open_low=True)
    if bottom > top or (distinct and bottom == top):
        sign = "below" if distinct else "at most"
        raise ValueError(f"min_prob must be {sign} max_prob = {top}, got {bottom}")
    return top, bottom
