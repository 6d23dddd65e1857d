"""Registries of configs."""

from synthkern.world.magnitudes import MAGNITUDE_REGISTRY
from synthkern.world.probabilities import FIRING_PROB_REGISTRY
from synthkern.world.registry import (
    Registry,
    T,
)

__all__ = [
    "FIRING_PROB_REGISTRY",
    "MAGNITUDE_REGISTRY",
    "Registry",
    "T",
]
