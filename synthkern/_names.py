"""The names of ``sae_lens.synthetic``, all of which synthkern has too."""

from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.evaluation import (
    ClassificationMetrics,
    ClassificationMetricsCalculator,
    DeadLatentsCalculator,
    L0Calculator,
    ShrinkageCalculator,
    SyntheticDataEvalResult,
    compute_classification_metrics,
    eval_sae_on_synthetic_data,
    feature_uniqueness,
    mean_correlation_coefficient,
)
from synthkern.evaluation.initialize import init_sae_to_match_feature_dict
from synthkern.evaluation.ordering import (
    find_best_feature_ordering,
    find_best_feature_ordering_across_saes,
    find_best_feature_ordering_from_sae,
)
from synthkern.model.activation_generator import (
    ActivationGenerator,
    ActivationsModifier,
    ActivationsModifierInput,
    CorrelationMatrixInput,
)
from synthkern.model.feature_dictionary import (
    FeatureDictionary,
    FeatureDictionaryInitializer,
    orthogonal_initializer,
)
from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.model.hierarchy import Hierarchy, generate_hierarchy
from synthkern.model.hierarchy_modifier import hierarchy_modifier
from synthkern.model.hub_upload import upload_synthetic_model_to_huggingface
from synthkern.model.orthogonalize import orthogonalize_embeddings
from synthkern.model.statistics import (
    CorrelationMatrixStats,
    SuperpositionStats,
    compute_correlation_matrix_stats,
    compute_low_rank_correlation_matrix_stats,
    compute_superposition_stats,
    cosine_similarities,
)
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.plots import plot_sae_feature_similarity
from synthkern.training import (
    RUNNER_CONFIG_FILENAME,
    SyntheticSAERunner,
    SyntheticSAERunnerConfig,
    SyntheticSAERunnerResult,
    train_toy_sae,
)
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

__all__ = [
    "RUNNER_CONFIG_FILENAME",
    "SYNTHETIC_MODEL_CONFIG_FILENAME",
    "SYNTHETIC_MODEL_HIERARCHY_FILENAME",
    "SYNTHETIC_MODEL_WEIGHTS_FILENAME",
    "ActivationGenerator",
    "ActivationsModifier",
    "ActivationsModifierInput",
    "ClassificationMetrics",
    "ClassificationMetricsCalculator",
    "ConstantFiringProbabilityConfig",
    "ConstantMagnitudeConfig",
    "CorrelationMatrixInput",
    "CorrelationMatrixStats",
    "DeadLatentsCalculator",
    "ExponentialMagnitudeConfig",
    "FeatureDictionary",
    "FeatureDictionaryInitializer",
    "FiringProbabilityConfig",
    "FoldedNormalMagnitudeConfig",
    "Hierarchy",
    "HierarchyConfig",
    "HierarchyNode",
    "L0Calculator",
    "LinearFiringProbabilityConfig",
    "LinearMagnitudeConfig",
    "LowRankCorrelationConfig",
    "LowRankCorrelationMatrix",
    "MagnitudeConfig",
    "OrthogonalizationConfig",
    "RandomFiringProbabilityConfig",
    "ShrinkageCalculator",
    "SuperpositionStats",
    "SyntheticActivationIterator",
    "SyntheticDataEvalResult",
    "SyntheticModel",
    "SyntheticModelConfig",
    "SyntheticSAERunner",
    "SyntheticSAERunnerConfig",
    "SyntheticSAERunnerResult",
    "ZipfianFiringProbabilityConfig",
    "compute_classification_metrics",
    "compute_correlation_matrix_stats",
    "compute_low_rank_correlation_matrix_stats",
    "compute_superposition_stats",
    "cosine_similarities",
    "create_correlation_matrix_from_correlations",
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
    "plot_sae_feature_similarity",
    "random_firing_probabilities",
    "register_firing_probability",
    "register_magnitude",
    "train_toy_sae",
    "upload_synthetic_model_to_huggingface",
    "zipfian_firing_probabilities",
]
