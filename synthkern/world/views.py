"""Views: several dictionaries over the same features."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern._checks import plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class ViewsConfig(PlainConfig):
    """Dictionaries over the same features, beside the world's own."""

    _called = "views"

    def __post_init__(self) -> None:
        plain_fields(self)
