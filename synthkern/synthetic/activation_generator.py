"""Generators of feature activations."""

from synthkern.model.activation_generator import (
    ActivationGenerator,
    ActivationsModifier,
    ActivationsModifierInput,
    CorrelationMatrixInput,
)
from synthkern.world.correlation import LowRankCorrelationMatrix

__all__ = [
    "ActivationGenerator",
    "ActivationsModifier",
    "ActivationsModifierInput",
    "CorrelationMatrixInput",
    "LowRankCorrelationMatrix",
]
