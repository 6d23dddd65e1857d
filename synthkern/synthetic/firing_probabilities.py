"""How often features fire."""

from synthkern.world.probabilities import (
    FIRING_PROB_REGISTRY as FIRING_PROB_REGISTRY,
    ConstantFiringProbabilityConfig as ConstantFiringProbabilityConfig,
    FiringProbabilityConfig as FiringProbabilityConfig,
    LinearFiringProbabilityConfig as LinearFiringProbabilityConfig,
    RandomFiringProbabilityConfig as RandomFiringProbabilityConfig,
    ZipfianFiringProbabilityConfig as ZipfianFiringProbabilityConfig,
    get_firing_probability_class as get_firing_probability_class,
    linear_firing_probabilities as linear_firing_probabilities,
    random_firing_probabilities as random_firing_probabilities,
    register_firing_probability as register_firing_probability,
    zipfian_firing_probabilities as zipfian_firing_probabilities,
)
