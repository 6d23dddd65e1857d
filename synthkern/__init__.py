"""A compiled engine for synthetic data with known features, for sparse autoencoders."""

from synthkern import _names, plots, sae, suite
from synthkern._names import *
from synthkern._version import __version__
from synthkern.data.synthetic_stream import SyntheticStream
from synthkern.evaluation import (
    Absorption,
    AbsorptionLevel,
    ExplainedVarianceCalculator,
    FrequencyBin,
    HeldOut,
    HierarchyRecovery,
    NullMCC,
    PerLatent,
    ProbeF1,
    ShiftedFigures,
    ShiftedRow,
    Splitting,
    dictionary_agreement,
    shifted_rows,
)
from synthkern.model import rates as _rates
from synthkern.model.description import WorldDescription, describe_world
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.model.observed import FittedWorld, fit_world
from synthkern.model.rates import *
from synthkern.model.world_cache import CachedWorld, WorldCache
from synthkern.plots import *
from synthkern.sae import *
from synthkern.sparse import SparseActivations
from synthkern.stream import STREAM_VERSION
from synthkern.suite import *
from synthkern.training import (
    ActivationScaler,
    Logger,
    LoggingConfig,
    NonFiniteLossError,
    SAETrainer,
    TensorBoardLogger,
    TrainingConfig,
    TrainingHistory,
    TrainingResult,
    WandbLogger,
    train_sae,
)
from synthkern.world.listed import ListedFiringProbabilityConfig, ListedMagnitudeConfig
from synthkern.world.shift import ShiftConfig

__all__ = [
    "STREAM_VERSION",
    "Absorption",
    "AbsorptionLevel",
    "ActivationScaler",
    "CachedWorld",
    "ExplainedVarianceCalculator",
    "FittedWorld",
    "FrequencyBin",
    "HeldOut",
    "HierarchyModifier",
    "HierarchyRecovery",
    "ListedFiringProbabilityConfig",
    "ListedMagnitudeConfig",
    "Logger",
    "LoggingConfig",
    "NonFiniteLossError",
    "NullMCC",
    "PerLatent",
    "ProbeF1",
    "SAETrainer",
    "ShiftConfig",
    "ShiftedFigures",
    "ShiftedRow",
    "SparseActivations",
    "Splitting",
    "SyntheticStream",
    "TensorBoardLogger",
    "TrainingConfig",
    "TrainingHistory",
    "TrainingResult",
    "WandbLogger",
    "WorldCache",
    "WorldDescription",
    "__version__",
    "describe_world",
    "dictionary_agreement",
    "fit_world",
    "shifted_rows",
    "train_sae",
]
__all__ += _names.__all__
__all__ += [name for name in plots.__all__ if name not in _names.__all__]
__all__ += _rates.__all__
__all__ += sae.__all__
__all__ += suite.__all__
