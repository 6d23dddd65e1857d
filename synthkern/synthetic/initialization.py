"""An SAE that knows the features."""

from synthkern.evaluation.initialize import (
    init_sae_to_match_feature_dict as init_sae_to_match_feature_dict,
)
from synthkern.model.feature_dictionary import FeatureDictionary as FeatureDictionary
