"""Correlations of features."""

from synthkern._warnings import logger
from synthkern.world.correlation import (
    LowRankCorrelationMatrix,
    create_correlation_matrix_from_correlations,
    generate_random_correlation_matrix,
    generate_random_correlations,
    generate_random_low_rank_correlation_matrix,
)

__all__ = [
    "LowRankCorrelationMatrix",
    "create_correlation_matrix_from_correlations",
    "generate_random_correlation_matrix",
    "generate_random_correlations",
    "generate_random_low_rank_correlation_matrix",
    "logger",
]
