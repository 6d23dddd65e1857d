"""Synthetic models and their recipe."""

from synthkern._warnings import logger
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary, orthogonal_initializer
from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.model.hierarchy import (
    Hierarchy,
    generate_hierarchy,
)
from synthkern.model.synthetic_model import SyntheticModel, temporary_seed
from synthkern.world.config import (
    LowRankCorrelationConfig,
    OrthogonalizationConfig,
    SyntheticModelConfig,
)
from synthkern.world.correlation import (
    LowRankCorrelationMatrix,
    generate_random_low_rank_correlation_matrix,
)
from synthkern.world.hierarchy import HierarchyConfig
from synthkern.world.magnitudes import (
    MagnitudeConfig,
    generate_magnitudes,
)
from synthkern.world.probabilities import (
    FiringProbabilityConfig,
    ZipfianFiringProbabilityConfig,
)

__all__ = [
    "SYNTHETIC_MODEL_CONFIG_FILENAME",
    "SYNTHETIC_MODEL_HIERARCHY_FILENAME",
    "SYNTHETIC_MODEL_WEIGHTS_FILENAME",
    "ActivationGenerator",
    "FeatureDictionary",
    "FiringProbabilityConfig",
    "Hierarchy",
    "HierarchyConfig",
    "LowRankCorrelationConfig",
    "LowRankCorrelationMatrix",
    "MagnitudeConfig",
    "OrthogonalizationConfig",
    "SyntheticModel",
    "SyntheticModelConfig",
    "ZipfianFiringProbabilityConfig",
    "generate_hierarchy",
    "generate_magnitudes",
    "generate_random_low_rank_correlation_matrix",
    "logger",
    "orthogonal_initializer",
    "temporary_seed",
]
