"""Pictures of similarities."""

from synthkern.feature_dictionary import FeatureDictionary
from synthkern.ordering import (
    find_best_feature_ordering,
    find_best_feature_ordering_across_saes,
    find_best_feature_ordering_from_sae,
)
from synthkern.plots import plot_sae_feature_similarity
from synthkern.statistics import cosine_similarities

__all__ = [
    "FeatureDictionary",
    "cosine_similarities",
    "find_best_feature_ordering",
    "find_best_feature_ordering_across_saes",
    "find_best_feature_ordering_from_sae",
    "plot_sae_feature_similarity",
]
