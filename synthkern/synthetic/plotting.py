"""Pictures of similarities."""

from synthkern.evaluation.ordering import (
    find_best_feature_ordering,
    find_best_feature_ordering_across_saes,
    find_best_feature_ordering_from_sae,
)
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.statistics import cosine_similarities
from synthkern.plots import plot_sae_feature_similarity

__all__ = [
    "FeatureDictionary",
    "cosine_similarities",
    "find_best_feature_ordering",
    "find_best_feature_ordering_across_saes",
    "find_best_feature_ordering_from_sae",
    "plot_sae_feature_similarity",
]
