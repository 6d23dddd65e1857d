"""Statistics of a world."""

from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.statistics import (
    CorrelationMatrixStats,
    SuperpositionStats,
    compute_correlation_matrix_stats,
    compute_low_rank_correlation_matrix_stats,
    compute_superposition_stats,
)
from synthkern.world.correlation import LowRankCorrelationMatrix

__all__ = [
    "CorrelationMatrixStats",
    "FeatureDictionary",
    "LowRankCorrelationMatrix",
    "SuperpositionStats",
    "compute_correlation_matrix_stats",
    "compute_low_rank_correlation_matrix_stats",
    "compute_superposition_stats",
]
