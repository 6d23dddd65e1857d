"""Evaluation against known features."""

from synthkern.evaluation import (
    ClassificationMetrics as ClassificationMetrics,
    ClassificationMetricsCalculator as ClassificationMetricsCalculator,
    DeadLatentsCalculator as DeadLatentsCalculator,
    ExplainedVarianceCalculator as ExplainedVarianceCalculator,
    L0Calculator as L0Calculator,
    ShrinkageCalculator as ShrinkageCalculator,
    SyntheticDataEvalResult as SyntheticDataEvalResult,
    compute_classification_metrics as compute_classification_metrics,
    eval_sae_on_synthetic_data as eval_sae_on_synthetic_data,
    feature_uniqueness as feature_uniqueness,
    mean_correlation_coefficient as mean_correlation_coefficient,
)
from synthkern.model.activation_generator import ActivationGenerator as ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary as FeatureDictionary
from synthkern.model.statistics import cosine_similarities as cosine_similarities
from synthkern.training import ActivationScaler as ActivationScaler
