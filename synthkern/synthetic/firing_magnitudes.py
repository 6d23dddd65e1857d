"""How strongly features fire."""

from synthkern.world.magnitudes import (
    MAGNITUDE_REGISTRY,
    ConstantMagnitudeConfig,
    ExponentialMagnitudeConfig,
    FoldedNormalMagnitudeConfig,
    LinearMagnitudeConfig,
    MagnitudeConfig,
    generate_magnitudes,
    get_magnitude_class,
    register_magnitude,
)

__all__ = [
    "MAGNITUDE_REGISTRY",
    "ConstantMagnitudeConfig",
    "ExponentialMagnitudeConfig",
    "FoldedNormalMagnitudeConfig",
    "LinearMagnitudeConfig",
    "MagnitudeConfig",
    "generate_magnitudes",
    "get_magnitude_class",
    "register_magnitude",
]
