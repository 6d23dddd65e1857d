"""An SAE that knows the features."""

from synthkern.feature_dictionary import FeatureDictionary
from synthkern.initialize import init_sae_to_match_feature_dict

__all__ = [
    "FeatureDictionary",
    "init_sae_to_match_feature_dict",
]
