"""Synthetic models and their recipe."""

from synthkern._warnings import logger as logger
from synthkern.model.activation_generator import ActivationGenerator as ActivationGenerator
from synthkern.model.feature_dictionary import (
    FeatureDictionary as FeatureDictionary,
    orthogonal_initializer as orthogonal_initializer,
)
from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME as SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME as SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME as SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.model.hierarchy import (
    Hierarchy as Hierarchy,
    generate_hierarchy as generate_hierarchy,
)
from synthkern.model.synthetic_model import (
    SyntheticModel as SyntheticModel,
    temporary_seed as temporary_seed,
)
from synthkern.world.config import (
    LowRankCorrelationConfig as LowRankCorrelationConfig,
    OrthogonalizationConfig as OrthogonalizationConfig,
    SyntheticModelConfig as SyntheticModelConfig,
)
from synthkern.world.correlation import (
    LowRankCorrelationMatrix as LowRankCorrelationMatrix,
    generate_random_low_rank_correlation_matrix as generate_random_low_rank_correlation_matrix,
)
from synthkern.world.hierarchy import HierarchyConfig as HierarchyConfig
from synthkern.world.magnitudes import (
    MagnitudeConfig as MagnitudeConfig,
    generate_magnitudes as generate_magnitudes,
)
from synthkern.world.probabilities import (
    FiringProbabilityConfig as FiringProbabilityConfig,
    ZipfianFiringProbabilityConfig as ZipfianFiringProbabilityConfig,
)
