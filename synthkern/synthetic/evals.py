"""Evaluation against known features."""

from synthkern.evaluation import (
    ClassificationMetrics,
    ClassificationMetricsCalculator,
    DeadLatentsCalculator,
    ExplainedVarianceCalculator,
    L0Calculator,
    ShrinkageCalculator,
    SyntheticDataEvalResult,
    compute_classification_metrics,
    eval_sae_on_synthetic_data,
    feature_uniqueness,
    mean_correlation_coefficient,
)
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.statistics import cosine_similarities
from synthkern.training import ActivationScaler

__all__ = [
    "ActivationGenerator",
    "ActivationScaler",
    "ClassificationMetrics",
    "ClassificationMetricsCalculator",
    "DeadLatentsCalculator",
    "ExplainedVarianceCalculator",
    "FeatureDictionary",
    "L0Calculator",
    "ShrinkageCalculator",
    "SyntheticDataEvalResult",
    "compute_classification_metrics",
    "cosine_similarities",
    "eval_sae_on_synthetic_data",
    "feature_uniqueness",
    "mean_correlation_coefficient",
]
