"""Activations along sequences: how long they are, and what persists from position to position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthkern._checks import as_float, as_int, plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class SequenceConfig(PlainConfig):
    """Samples are positions of sequences, along which features and factors persist.

    Attributes:
        length: T, positions of a sequence, at least 1.
        feature_persistence: rho in [0, 1], a number, or numbers: one for each level of the trees
            from the top down, the last one for all below too, features outside trees being of
            level 0; or one for each feature.
        factor_persistence: rho of the factors of a copula, in [0, 1].
    """

    _called = "sequence"

    length: int
    feature_persistence: float | Sequence[float] = 0.0
    factor_persistence: float = 0.0

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("length", self.length, low=1)
        as_float("factor_persistence", self.factor_persistence, low=0, high=1)
