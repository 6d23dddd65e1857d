"""Measuring an SAE against the features that made its inputs.

The calculators take the samples batch by batch and keep sums of them in float64, or whole numbers;
what they are sums of is compared with nothing of size B x N.
"""

from synthkern.evaluation.absorption import Absorption, AbsorptionLevel
from synthkern.evaluation.agreement import dictionary_agreement
from synthkern.evaluation.by_feature import FrequencyBin
from synthkern.evaluation.classification import (
    ClassificationMetrics,
    ClassificationMetricsCalculator,
    compute_classification_metrics,
)
from synthkern.evaluation.dead_latents import DeadLatentsCalculator
from synthkern.evaluation.evaluate import eval_sae_on_synthetic_data, eval_sae_on_views
from synthkern.evaluation.explained_variance import ExplainedVarianceCalculator
from synthkern.evaluation.held_out import HeldOut
from synthkern.evaluation.hierarchy_recovery import HierarchyRecovery
from synthkern.evaluation.l0 import L0Calculator
from synthkern.evaluation.manifolds import ManifoldPlaneRecovery, ManifoldTiling
from synthkern.evaluation.matching import feature_uniqueness, mean_correlation_coefficient
from synthkern.evaluation.null_mcc import NullMCC
from synthkern.evaluation.probing import ProbeF1
from synthkern.evaluation.result import PerLatent, SyntheticDataEvalResult
from synthkern.evaluation.shift_table import ShiftedRow, shifted_rows
from synthkern.evaluation.shifted import ShiftedFigures
from synthkern.evaluation.shrinkage import ShrinkageCalculator
from synthkern.evaluation.splitting import Splitting
from synthkern.evaluation.tuning import TuningCurves, manifold_tuning_curves
from synthkern.evaluation.views import MapRecovery, ViewRecovery

__all__ = [
    "Absorption",
    "AbsorptionLevel",
    "ClassificationMetrics",
    "ClassificationMetricsCalculator",
    "DeadLatentsCalculator",
    "ExplainedVarianceCalculator",
    "FrequencyBin",
    "HeldOut",
    "HierarchyRecovery",
    "L0Calculator",
    "ManifoldPlaneRecovery",
    "ManifoldTiling",
    "MapRecovery",
    "NullMCC",
    "PerLatent",
    "ProbeF1",
    "ShiftedFigures",
    "ShiftedRow",
    "ShrinkageCalculator",
    "Splitting",
    "SyntheticDataEvalResult",
    "TuningCurves",
    "ViewRecovery",
    "compute_classification_metrics",
    "dictionary_agreement",
    "eval_sae_on_synthetic_data",
    "eval_sae_on_views",
    "feature_uniqueness",
    "manifold_tuning_curves",
    "mean_correlation_coefficient",
    "shifted_rows",
]
