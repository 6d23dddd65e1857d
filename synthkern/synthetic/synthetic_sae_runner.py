"""Whole runs."""

from synthkern._warnings import logger
from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.evaluation import (
    SyntheticDataEvalResult,
    eval_sae_on_synthetic_data,
)
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae import (
    TrainingSAE,
    TrainingSAEConfig,
)
from synthkern.training import (
    ActivationScaler,
    LoggingConfig,
    SAETrainer,
    SAETrainerConfig,
    SyntheticSAERunner,
    SyntheticSAERunnerConfig,
    SyntheticSAERunnerResult,
)
from synthkern.training.runner import (
    RUNNER_CONFIG_FILENAME,
    SPARSITY_FILENAME,
)
from synthkern.training.runner_config import SAEConfig as T_TRAINING_SAE_CONFIG
from synthkern.world.config import SyntheticModelConfig

__all__ = [
    "RUNNER_CONFIG_FILENAME",
    "SPARSITY_FILENAME",
    "T_TRAINING_SAE_CONFIG",
    "ActivationScaler",
    "LoggingConfig",
    "SAETrainer",
    "SAETrainerConfig",
    "SyntheticActivationIterator",
    "SyntheticDataEvalResult",
    "SyntheticModel",
    "SyntheticModelConfig",
    "SyntheticSAERunner",
    "SyntheticSAERunnerConfig",
    "SyntheticSAERunnerResult",
    "TrainingSAE",
    "TrainingSAEConfig",
    "eval_sae_on_synthetic_data",
    "logger",
]
