"""A compiled engine for synthetic data with known features, for sparse autoencoders."""

from importlib.metadata import version as _version

from synthkern.activation_generator import ActivationGenerator, ActivationsModifier
from synthkern.activation_iterator import SyntheticActivationIterator
from synthkern.description import WorldDescription, describe_world
from synthkern.evaluation import (
    ClassificationMetrics,
    ClassificationMetricsCalculator,
    DeadLatentsCalculator,
    ExplainedVarianceCalculator,
    L0Calculator,
    PerLatent,
    ShrinkageCalculator,
    SyntheticDataEvalResult,
    compute_classification_metrics,
    eval_sae_on_synthetic_data,
    feature_uniqueness,
    mean_correlation_coefficient,
)
from synthkern.feature_dictionary import FeatureDictionary
from synthkern.hierarchy import Hierarchy, generate_hierarchy
from synthkern.hierarchy_modifier import HierarchyModifier, hierarchy_modifier
from synthkern.hub_upload import upload_synthetic_model_to_huggingface
from synthkern.initialize import init_sae_to_match_feature_dict
from synthkern.model_files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.ordering import (
    find_best_feature_ordering,
    find_best_feature_ordering_across_saes,
    find_best_feature_ordering_from_sae,
)
from synthkern.orthogonalize import (
    FeatureDictionaryInitializer,
    orthogonal_initializer,
    orthogonalize_embeddings,
)
from synthkern.plots import plot_precision_recall, plot_sae_feature_similarity
from synthkern.rates import (
    Calibration,
    EffectiveFiringProbabilities,
    calibrate_firing_probabilities,
    effective_firing_probabilities,
)
from synthkern.sparse import SparseActivations
from synthkern.statistics import (
    CorrelationMatrixStats,
    SuperpositionStats,
    compute_correlation_matrix_stats,
    compute_low_rank_correlation_matrix_stats,
    compute_superposition_stats,
    cosine_similarities,
)
from synthkern.stream import STREAM_VERSION
from synthkern.synthetic_model import SyntheticModel
from synthkern.synthetic_stream import SyntheticStream
from synthkern.world.config import (
    LowRankCorrelationConfig,
    OrthogonalizationConfig,
    SyntheticModelConfig,
)
from synthkern.world.correlation import (
    LowRankCorrelationMatrix,
    create_correlation_matrix_from_correlations,
    generate_random_correlation_matrix,
    generate_random_correlations,
    generate_random_low_rank_correlation_matrix,
)
from synthkern.world.hierarchy import HierarchyConfig, HierarchyNode
from synthkern.world.magnitudes import (
    ConstantMagnitudeConfig,
    ExponentialMagnitudeConfig,
    FoldedNormalMagnitudeConfig,
    LinearMagnitudeConfig,
    MagnitudeConfig,
    generate_magnitudes,
    get_magnitude_class,
    register_magnitude,
)
from synthkern.world.probabilities import (
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

__version__ = _version("synthkern")

__all__ = [
    "STREAM_VERSION",
    "SYNTHETIC_MODEL_CONFIG_FILENAME",
    "SYNTHETIC_MODEL_HIERARCHY_FILENAME",
    "SYNTHETIC_MODEL_WEIGHTS_FILENAME",
    "ActivationGenerator",
    "ActivationsModifier",
    "Calibration",
    "ClassificationMetrics",
    "ClassificationMetricsCalculator",
    "ConstantFiringProbabilityConfig",
    "ConstantMagnitudeConfig",
    "CorrelationMatrixStats",
    "DeadLatentsCalculator",
    "EffectiveFiringProbabilities",
    "ExplainedVarianceCalculator",
    "ExponentialMagnitudeConfig",
    "FeatureDictionary",
    "FeatureDictionaryInitializer",
    "FiringProbabilityConfig",
    "FoldedNormalMagnitudeConfig",
    "Hierarchy",
    "HierarchyConfig",
    "HierarchyModifier",
    "HierarchyNode",
    "L0Calculator",
    "LinearFiringProbabilityConfig",
    "LinearMagnitudeConfig",
    "LowRankCorrelationConfig",
    "LowRankCorrelationMatrix",
    "MagnitudeConfig",
    "OrthogonalizationConfig",
    "PerLatent",
    "RandomFiringProbabilityConfig",
    "ShrinkageCalculator",
    "SparseActivations",
    "SuperpositionStats",
    "SyntheticActivationIterator",
    "SyntheticDataEvalResult",
    "SyntheticModel",
    "SyntheticModelConfig",
    "SyntheticStream",
    "WorldDescription",
    "ZipfianFiringProbabilityConfig",
    "__version__",
    "calibrate_firing_probabilities",
    "compute_classification_metrics",
    "compute_correlation_matrix_stats",
    "compute_low_rank_correlation_matrix_stats",
    "compute_superposition_stats",
    "cosine_similarities",
    "create_correlation_matrix_from_correlations",
    "describe_world",
    "effective_firing_probabilities",
    "eval_sae_on_synthetic_data",
    "feature_uniqueness",
    "find_best_feature_ordering",
    "find_best_feature_ordering_across_saes",
    "find_best_feature_ordering_from_sae",
    "generate_hierarchy",
    "generate_magnitudes",
    "generate_random_correlation_matrix",
    "generate_random_correlations",
    "generate_random_low_rank_correlation_matrix",
    "get_firing_probability_class",
    "get_magnitude_class",
    "hierarchy_modifier",
    "init_sae_to_match_feature_dict",
    "linear_firing_probabilities",
    "mean_correlation_coefficient",
    "orthogonal_initializer",
    "orthogonalize_embeddings",
    "plot_precision_recall",
    "plot_sae_feature_similarity",
    "random_firing_probabilities",
    "register_firing_probability",
    "register_magnitude",
    "upload_synthetic_model_to_huggingface",
    "zipfian_firing_probabilities",
]
