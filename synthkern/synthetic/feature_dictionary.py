"""Feature vectors."""

from synthkern.model.feature_dictionary import (
    FeatureDictionary,
    FeatureDictionaryInitializer,
    orthogonal_initializer,
)
from synthkern.model.orthogonalize import orthogonalize_embeddings

__all__ = [
    "FeatureDictionary",
    "FeatureDictionaryInitializer",
    "orthogonal_initializer",
    "orthogonalize_embeddings",
]
