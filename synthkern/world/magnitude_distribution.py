"""The distributions of firing magnitudes about a feature's mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from synthkern._checks import as_float, check_keys, plain_fields


@dataclass
class MagnitudeDistribution:
    """Base class of the distributions of magnitudes.

    A magnitude is a function of a standard normal z, drawn for each feature and sample anew. With
    a correlation c, z = sqrt(c) * g + sqrt(1 - c) * n, where all features of a sample share g: the
    magnitudes of features that are active together then have Spearman's rank correlation
    6 / pi * asin(c / 2) and Kendall's 2 / pi * asin(c), whatever their distribution (Kruskal,
    "Ordinal measures of association", 1958), and every feature keeps its distribution.

    The stream's normals end at 6.338 sigma, the quantile of probability 2**-33, and magnitudes
    end where that takes them.

    Attributes:
        correlation: of the underlying normals of the features that are active together, in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> together = {"name": "lognormal", "correlation": 0.5}
        >>> cfg = synthetic.SyntheticModelConfig(
        ...     16, 4, std_firing_magnitudes=1.0, magnitude_distribution=together, seed=0
        ... )
        >>> isinstance(cfg.magnitude_distribution, synthetic.MagnitudeDistribution)
        True
    """

    name: ClassVar[str]
    #: Whether z becomes an exponential variable, -log(1 - Phi(z)), before it is scaled.
    is_exponential: ClassVar[bool] = False
    #: Whether what is scaled is the magnitude's logarithm.
    is_logarithmic: ClassVar[bool] = False

    correlation: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("correlation", self.correlation, low=0, high=1)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the name."""
        return {"name": self.name, **{f.name: getattr(self, f.name) for f in fields(self)}}

    def parameters(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Location and scale [N] from means and deviations [N], all float64.

        Raises:
            ValueError: where the distribution has no such mean or deviation; names the feature.
        """
        raise NotImplementedError

    def deviation(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """The magnitudes' standard deviations [N] float64: what was asked for."""
        del mean
        return std

    def _check_positive(self, mean: torch.Tensor) -> None:
        bad = (mean <= 0).nonzero()
        if bad.numel():
            first = int(bad[0])
            raise ValueError(
                f"mean_firing_magnitudes must be > 0 where magnitudes are {self.name}, "
                f"got {float(mean[first])!r} at [{first}]"
            )


@dataclass
class NormalMagnitudeDistribution(MagnitudeDistribution):
    """A normal, clipped at 0: max(0, mean + std * z).

    Before the clipping the correlation of two magnitudes is ``correlation`` itself.

    Attributes:
        correlation: of the underlying normals of the features that are active together, in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> together = synthetic.NormalMagnitudeDistribution(correlation=1.0)
        >>> generator = synthetic.ActivationGenerator(
        ...     3, 1.0, 0.25, 1.0, magnitude_distribution=together
        ... )
        >>> generator.sample(2, seed=0)
        tensor([[0.9425, 0.9425, 0.9425],
                [1.1718, 1.1718, 1.1718]])
    """

    name = "normal"

    def parameters(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation."""
        return mean, std


@dataclass
class LognormalMagnitudeDistribution(MagnitudeDistribution):
    """exp(mu + sigma * z): sigma**2 = log(1 + std**2 / mean**2), mu = log(mean) - sigma**2 / 2.

    Means must be > 0. Quantile p is exp(mu + sigma * Phi^-1(p)). Two magnitudes with a correlation
    c of their normals are correlated by
    (exp(c * sigma1 * sigma2) - 1) / sqrt((exp(sigma1**2) - 1) * (exp(sigma2**2) - 1)). Of the mean,
    Phi(sigma - 6.338) lies beyond where the normals end: 7e-6 for sigma = 2 (std = 7.3 * mean).

    Attributes:
        correlation: of the underlying normals of the features that are active together, in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(
        ...     3, 1.0, 2.0, 1.0, magnitude_distribution="lognormal"
        ... )
        >>> generator.sample(2, seed=0)
        tensor([[0.0375, 0.1846, 0.1978],
                [0.9840, 0.1863, 1.3642]])
    """

    name = "lognormal"
    is_logarithmic = True

    def parameters(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mu and sigma."""
        self._check_positive(mean)
        variance = (std / mean).square().log1p()
        return mean.log() - variance / 2, variance.sqrt()


@dataclass
class ExponentialMagnitudeDistribution(MagnitudeDistribution):
    """mean - std + std * e, e an exponential variable of mean 1: -log(1 - Phi(z)).

    The exponential distribution itself where std = mean; with a smaller deviation it begins at
    mean - std. Larger ones are refused. Quantile p is mean - std - std * log(1 - p).

    Attributes:
        correlation: of the underlying normals of the features that are active together, in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(
        ...     3, 1.0, 1.0, 1.0, magnitude_distribution="exponential"
        ... )
        >>> generator.sample(2, seed=0)
        tensor([[0.0257, 0.2781, 0.3012],
                [1.3202, 0.2810, 1.6625]])
    """

    name = "exponential"
    is_exponential = True

    def parameters(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean minus deviation, and deviation."""
        self._check_positive(mean)
        bad = (std > mean).nonzero()
        if bad.numel():
            first = int(bad[0])
            raise ValueError(
                "std_firing_magnitudes must be <= mean_firing_magnitudes where magnitudes are "
                f"exponential, or some would be below 0, got {float(std[first])!r} and "
                f"{float(mean[first])!r} at [{first}]"
            )
        return mean - std, std


@dataclass
class ParetoMagnitudeDistribution(MagnitudeDistribution):
    """Pareto's: least * exp(e / alpha), e exponential of mean 1; the tail falls as x**-alpha.

    The least magnitude is mean * (alpha - 1) / alpha. Without an ``alpha`` it follows from mean
    and deviation, alpha = 1 + sqrt(1 + mean**2 / std**2), and is above 2. With one it is the same
    for all features, and ``std_firing_magnitudes`` is not used: the deviation is
    mean / sqrt(alpha * (alpha - 2)), infinite for alpha <= 2. Means must be > 0. Quantile p is
    least * (1 - p)^(-1 / alpha).

    Of the mean, 2**(-33 * (1 - 1 / alpha)) lies beyond where the stream's normals end: 1e-5 for
    alpha = 2, 5e-4 for 1.5, but 2% for 1.2.

    Attributes:
        alpha: the tail's exponent, above 1, or None.
        correlation: of the underlying normals of the features that are active together, in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> heavy = synthetic.ParetoMagnitudeDistribution(alpha=2.5)
        >>> generator = synthetic.ActivationGenerator(3, 1.0, magnitude_distribution=heavy)
        >>> generator.sample(2, seed=0)
        tensor([[0.6062, 0.6706, 0.6768],
                [1.0174, 0.6714, 1.1667]])
    """

    name = "pareto"
    is_exponential = True
    is_logarithmic = True

    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            as_float("alpha", self.alpha, low=1, open_low=True)

    def parameters(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The least magnitude's logarithm, and 1 / alpha."""
        self._check_positive(mean)
        scale = self._inverse_alpha(mean, std)
        return mean.log() + (-scale).log1p(), scale

    def deviation(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """The magnitudes' standard deviations [N] float64: of ``alpha``, where it is given."""
        if self.alpha is None:
            return std
        room = self.alpha * (self.alpha - 2)
        return mean / room**0.5 if room > 0 else torch.full_like(mean, torch.inf)

    def _inverse_alpha(self, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        if self.alpha is not None:
            return torch.full_like(mean, 1 / self.alpha)
        # As 1 / (1 + sqrt(1 + 1 / r^2)), but 0 where r is.
        ratio = std / mean
        return ratio / (ratio + ratio.square().add(1).sqrt())


#: The distributions by name.
MAGNITUDE_DISTRIBUTIONS: dict[str, type[MagnitudeDistribution]] = {
    kind.name: kind
    for kind in (
        NormalMagnitudeDistribution,
        LognormalMagnitudeDistribution,
        ExponentialMagnitudeDistribution,
        ParetoMagnitudeDistribution,
    )
}


def short_magnitude_distribution(
    distribution: MagnitudeDistribution,
) -> str | MagnitudeDistribution:
    """The name of a distribution that has no more to say, else itself."""
    return distribution.name if distribution == type(distribution)() else distribution


def as_magnitude_distribution(name: str, value: Any) -> MagnitudeDistribution:
    """A distribution as it is, by its name, or of what :meth:`to_dict` gave.

    Raises:
        ValueError: for an unknown name; lists the known ones.
        TypeError: for anything else.
    """
    if isinstance(value, MagnitudeDistribution):
        return value
    data: Mapping[str, Any] = {"name": value} if isinstance(value, str) else value
    if not isinstance(data, Mapping):
        raise TypeError(f"{name} must be a name or a MagnitudeDistribution, got {value!r}")
    given = data.get("name")
    kind = MAGNITUDE_DISTRIBUTIONS.get(given) if isinstance(given, str) else None
    if kind is None:
        raise ValueError(f"{name} must be one of {sorted(MAGNITUDE_DISTRIBUTIONS)}, got {value!r}")
    check_keys(name, data, {"name", *(f.name for f in fields(kind))})
    return kind(**{key: part for key, part in data.items() if key != "name"})
