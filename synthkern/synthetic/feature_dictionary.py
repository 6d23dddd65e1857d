"""Feature vectors."""

from synthkern.model.feature_dictionary import (
    FeatureDictionary as FeatureDictionary,
    FeatureDictionaryInitializer as FeatureDictionaryInitializer,
    orthogonal_initializer as orthogonal_initializer,
)
from synthkern.model.orthogonalize import orthogonalize_embeddings as orthogonalize_embeddings
