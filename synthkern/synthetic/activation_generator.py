"""Generators of feature activations."""

from synthkern.model.activation_generator import (
    ActivationGenerator as ActivationGenerator,
    ActivationsModifier as ActivationsModifier,
    ActivationsModifierInput as ActivationsModifierInput,
    CorrelationMatrixInput as CorrelationMatrixInput,
)
from synthkern.world.correlation import LowRankCorrelationMatrix as LowRankCorrelationMatrix
