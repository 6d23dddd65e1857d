"""Whole runs."""

from synthkern._warnings import logger as logger
from synthkern.data.activation_iterator import (
    SyntheticActivationIterator as SyntheticActivationIterator,
)
from synthkern.evaluation import (
    SyntheticDataEvalResult as SyntheticDataEvalResult,
    eval_sae_on_synthetic_data as eval_sae_on_synthetic_data,
)
from synthkern.model.synthetic_model import SyntheticModel as SyntheticModel
from synthkern.sae import TrainingSAE as TrainingSAE, TrainingSAEConfig as TrainingSAEConfig
from synthkern.training import (
    ActivationScaler as ActivationScaler,
    LoggingConfig as LoggingConfig,
    SAETrainer as SAETrainer,
    SAETrainerConfig as SAETrainerConfig,
    SyntheticSAERunner as SyntheticSAERunner,
    SyntheticSAERunnerConfig as SyntheticSAERunnerConfig,
    SyntheticSAERunnerResult as SyntheticSAERunnerResult,
)
from synthkern.training.runner import (
    RUNNER_CONFIG_FILENAME as RUNNER_CONFIG_FILENAME,
    SPARSITY_FILENAME as SPARSITY_FILENAME,
)
from synthkern.training.runner_config import T_TRAINING_SAE_CONFIG as T_TRAINING_SAE_CONFIG
from synthkern.world.config import SyntheticModelConfig as SyntheticModelConfig
