"""Feature vectors."""

from synthkern.feature_dictionary import FeatureDictionary
from synthkern.orthogonalize import (
    FeatureDictionaryInitializer,
    orthogonal_initializer,
    orthogonalize_embeddings,
)

__all__ = [
    "FeatureDictionary",
    "FeatureDictionaryInitializer",
    "orthogonal_initializer",
    "orthogonalize_embeddings",
]
