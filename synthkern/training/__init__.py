"""Training sparse autoencoders on streams of samples."""

from synthkern.training.config import TrainingConfig
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger, TensorBoardLogger, WandbLogger
from synthkern.training.scaler import ActivationScaler
from synthkern.training.train import train_sae
from synthkern.training.trainer import NonFiniteLossError, SAETrainer

__all__ = [
    "ActivationScaler",
    "Logger",
    "NonFiniteLossError",
    "SAETrainer",
    "TensorBoardLogger",
    "TrainingConfig",
    "TrainingHistory",
    "WandbLogger",
    "train_sae",
]
