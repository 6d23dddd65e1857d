"""How often features fire."""

from synthkern.world.probabilities import (
    FIRING_PROB_REGISTRY,
    ConstantFiringProbabilityConfig,
    FiringProbabilityConfig,
    LinearFiringProbabilityConfig,
    RandomFiringProbabilityConfig,
    ZipfianFiringProbabilityConfig,
    get_firing_probability_class,
    linear_firing_probabilities,
    random_firing_probabilities,
    register_firing_probability,
    zipfian_firing_probabilities,
)

__all__ = [
    "FIRING_PROB_REGISTRY",
    "ConstantFiringProbabilityConfig",
    "FiringProbabilityConfig",
    "LinearFiringProbabilityConfig",
    "RandomFiringProbabilityConfig",
    "ZipfianFiringProbabilityConfig",
    "get_firing_probability_class",
    "linear_firing_probabilities",
    "random_firing_probabilities",
    "register_firing_probability",
    "zipfian_firing_probabilities",
]
