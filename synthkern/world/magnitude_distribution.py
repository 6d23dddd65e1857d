"""The distributions of firing magnitudes about a feature's mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from synthkern._checks import as_float, check_keys, plain_fields


@dataclass
class MagnitudeDistribution:
    """Base class of the distributions of magnitudes.

    Attributes:
        correlation: of the underlying normals of the features that are active together, in [0, 1].
    """

    name: ClassVar[str]
    correlation: float = 0.0

    def __post_init__(self) -> None:
        plain_fields(self)
        as_float("correlation", self.correlation, low=0, high=1)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the name."""
        return {"name": self.name, **{f.name: getattr(self, f.name) for f in fields(self)}}


@dataclass
class NormalMagnitudeDistribution(MagnitudeDistribution):
    """A normal, clipped at 0."""

    name = "normal"


#: The distributions by name.
MAGNITUDE_DISTRIBUTIONS: dict[str, type[MagnitudeDistribution]] = {
    kind.name: kind for kind in (NormalMagnitudeDistribution,)
}


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
    kind = MAGNITUDE_DISTRIBUTIONS.get(data.get("name", ""))
    if kind is None:
        raise ValueError(f"{name} must be one of {sorted(MAGNITUDE_DISTRIBUTIONS)}, got {value!r}")
    check_keys(name, data, {"name", *(f.name for f in fields(kind))})
    return kind(**{key: part for key, part in data.items() if key != "name"})
