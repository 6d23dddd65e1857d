"""How strongly features fire."""

from synthkern.world.magnitudes import (
    MAGNITUDE_REGISTRY as MAGNITUDE_REGISTRY,
    ConstantMagnitudeConfig as ConstantMagnitudeConfig,
    ExponentialMagnitudeConfig as ExponentialMagnitudeConfig,
    FoldedNormalMagnitudeConfig as FoldedNormalMagnitudeConfig,
    LinearMagnitudeConfig as LinearMagnitudeConfig,
    MagnitudeConfig as MagnitudeConfig,
    generate_magnitudes as generate_magnitudes,
    get_magnitude_class as get_magnitude_class,
    register_magnitude as register_magnitude,
)
