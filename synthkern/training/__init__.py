"""Training sparse autoencoders on streams of samples."""

from synthkern.training.config import TrainingConfig
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger, TensorBoardLogger, WandbLogger
from synthkern.training.run import TrainingResult
from synthkern.training.runner import (
    RUNNER_CONFIG_FILENAME,
    SyntheticSAERunner,
    SyntheticSAERunnerResult,
)
from synthkern.training.runner_config import LoggingConfig, SyntheticSAERunnerConfig
from synthkern.training.scaler import ActivationScaler
from synthkern.training.toy import train_toy_sae
from synthkern.training.train import train_sae
from synthkern.training.trainer import NonFiniteLossError, SAETrainer
from synthkern.training.trainer_config import SAETrainerConfig

__all__ = [
    "RUNNER_CONFIG_FILENAME",
    "ActivationScaler",
    "Logger",
    "LoggingConfig",
    "NonFiniteLossError",
    "SAETrainer",
    "SAETrainerConfig",
    "SyntheticSAERunner",
    "SyntheticSAERunnerConfig",
    "SyntheticSAERunnerResult",
    "TensorBoardLogger",
    "TrainingConfig",
    "TrainingHistory",
    "TrainingResult",
    "WandbLogger",
    "train_sae",
    "train_toy_sae",
]
