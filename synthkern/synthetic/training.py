"""Training on synthetic data."""

from synthkern.activation_generator import ActivationGenerator
from synthkern.activation_iterator import SyntheticActivationIterator
from synthkern.feature_dictionary import FeatureDictionary
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
