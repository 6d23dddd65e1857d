"""Pictures of similarities."""

from synthkern.evaluation.ordering import (
    find_best_feature_ordering as find_best_feature_ordering,
    find_best_feature_ordering_across_saes as find_best_feature_ordering_across_saes,
    find_best_feature_ordering_from_sae as find_best_feature_ordering_from_sae,
)
from synthkern.model.feature_dictionary import FeatureDictionary as FeatureDictionary
from synthkern.model.statistics import cosine_similarities as cosine_similarities
from synthkern.plots import plot_sae_feature_similarity as plot_sae_feature_similarity
