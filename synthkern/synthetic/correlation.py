"""Correlations of features."""

from synthkern._warnings import logger as logger
from synthkern.world.correlation import (
    LowRankCorrelationMatrix as LowRankCorrelationMatrix,
    create_correlation_matrix_from_correlations as create_correlation_matrix_from_correlations,
    generate_random_correlation_matrix as generate_random_correlation_matrix,
    generate_random_correlations as generate_random_correlations,
    generate_random_low_rank_correlation_matrix as generate_random_low_rank_correlation_matrix,
)
