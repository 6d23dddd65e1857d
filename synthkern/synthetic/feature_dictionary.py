"""Feature vectors."""

from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.orthogonalize import (
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
