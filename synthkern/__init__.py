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
    ManifoldPlaneRecovery,
    ManifoldTiling,
    MapRecovery,
    NullMCC,
    PerLatent,
    ProbeF1,
    ShiftedFigures,
    ShiftedRow,
    Splitting,
    TuningCurves,
    ViewRecovery,
    dictionary_agreement,
    eval_sae_on_views,
    manifold_tuning_curves,
    shifted_rows,
)
from synthkern.model import rates as _rates
from synthkern.model.description import WorldDescription, describe_world
from synthkern.model.feature_map import FeatureMap
from synthkern.model.hidden_noise import HiddenNoise
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.model.observed import FittedWorld, fit_world
from synthkern.model.rates import *
from synthkern.model.signal_to_noise import (
    NoiseDescription,
    SignalVariance,
    signal_variance,
)
from synthkern.model.views import Views
from synthkern.model.views_description import ViewsDescription
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
from synthkern.world.magnitude_distribution import (
    ExponentialMagnitudeDistribution,
    LognormalMagnitudeDistribution,
    MagnitudeDistribution,
    NormalMagnitudeDistribution,
    ParetoMagnitudeDistribution,
)
from synthkern.world.manifolds import ManifoldConfig
from synthkern.world.noise import NoiseConfig
from synthkern.world.sequence import SequenceConfig
from synthkern.world.shift import ShiftConfig
from synthkern.world.views import MapConfig, ViewsConfig

__all__ = [
    "STREAM_VERSION",
    "Absorption",
    "AbsorptionLevel",
    "ActivationScaler",
    "CachedWorld",
    "ExplainedVarianceCalculator",
    "ExponentialMagnitudeDistribution",
    "FeatureMap",
    "FittedWorld",
    "FrequencyBin",
    "HeldOut",
    "HiddenNoise",
    "HierarchyModifier",
    "HierarchyRecovery",
    "ListedFiringProbabilityConfig",
    "ListedMagnitudeConfig",
    "Logger",
    "LoggingConfig",
    "LognormalMagnitudeDistribution",
    "MagnitudeDistribution",
    "ManifoldConfig",
    "ManifoldPlaneRecovery",
    "ManifoldTiling",
    "MapConfig",
    "MapRecovery",
    "NoiseConfig",
    "NoiseDescription",
    "NonFiniteLossError",
    "NormalMagnitudeDistribution",
    "NullMCC",
    "ParetoMagnitudeDistribution",
    "PerLatent",
    "ProbeF1",
    "SAETrainer",
    "SequenceConfig",
    "ShiftConfig",
    "ShiftedFigures",
    "ShiftedRow",
    "SignalVariance",
    "SparseActivations",
    "Splitting",
    "SyntheticStream",
    "TensorBoardLogger",
    "TrainingConfig",
    "TrainingHistory",
    "TrainingResult",
    "TuningCurves",
    "ViewRecovery",
    "Views",
    "ViewsConfig",
    "ViewsDescription",
    "WandbLogger",
    "WorldCache",
    "WorldDescription",
    "__version__",
    "describe_world",
    "dictionary_agreement",
    "eval_sae_on_views",
    "fit_world",
    "manifold_tuning_curves",
    "shifted_rows",
    "signal_variance",
    "train_sae",
]
__all__ += _names.__all__
__all__ += [name for name in plots.__all__ if name not in _names.__all__]
__all__ += _rates.__all__
__all__ += sae.__all__
__all__ += suite.__all__
