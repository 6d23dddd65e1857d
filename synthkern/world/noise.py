"""Noise in hidden activations."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern._checks import plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class NoiseConfig(PlainConfig):
    """Normal noise that is added to hidden activations."""

    _called = "noise"

    std: float | None = None
    snr_db: float | None = None
    rank: int = 0

    def __post_init__(self) -> None:
        plain_fields(self)
