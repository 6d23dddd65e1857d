"""Features that are circles, or products of circles, rather than directions."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern._checks import plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class ManifoldConfig(PlainConfig):
    """Features that are circles."""

    _called = "manifolds"

    def __post_init__(self) -> None:
        plain_fields(self)
