"""Registries of configs."""

from synthkern.world.magnitudes import MAGNITUDE_REGISTRY as MAGNITUDE_REGISTRY
from synthkern.world.probabilities import FIRING_PROB_REGISTRY as FIRING_PROB_REGISTRY
from synthkern.world.registry import Registry as Registry, T as T
