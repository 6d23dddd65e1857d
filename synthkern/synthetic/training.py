"""Training on synthetic data."""

from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.sae import TrainingSAE
from synthkern.training import (
    LoggingConfig,
    SAETrainer,
    SAETrainerConfig,
    train_toy_sae,
)

__all__ = [
    "ActivationGenerator",
    "FeatureDictionary",
    "LoggingConfig",
    "SAETrainer",
    "SAETrainerConfig",
    "SyntheticActivationIterator",
    "TrainingSAE",
    "train_toy_sae",
]
