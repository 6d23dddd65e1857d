"""Training on synthetic data."""

from synthkern.data.activation_iterator import (
    SyntheticActivationIterator as SyntheticActivationIterator,
)
from synthkern.model.activation_generator import ActivationGenerator as ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary as FeatureDictionary
from synthkern.sae import TrainingSAE as TrainingSAE
from synthkern.training import (
    LoggingConfig as LoggingConfig,
    SAETrainer as SAETrainer,
    SAETrainerConfig as SAETrainerConfig,
    train_toy_sae as train_toy_sae,
)
