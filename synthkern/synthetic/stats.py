"""Statistics of a world."""

from synthkern.model.feature_dictionary import FeatureDictionary as FeatureDictionary
from synthkern.model.statistics import (
    CorrelationMatrixStats as CorrelationMatrixStats,
    SuperpositionStats as SuperpositionStats,
    compute_correlation_matrix_stats as compute_correlation_matrix_stats,
    compute_low_rank_correlation_matrix_stats as compute_low_rank_correlation_matrix_stats,
    compute_superposition_stats as compute_superposition_stats,
)
from synthkern.world.correlation import LowRankCorrelationMatrix as LowRankCorrelationMatrix
