"""Shifts: a world and its twin out of its distribution."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern._checks import plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class ShiftConfig(PlainConfig):
    """What differs between a world and its shifted twin."""

    _called = "shift"

    def __post_init__(self) -> None:
        plain_fields(self)
