"""What decides a world's numbers, by which one that was built is known again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

import torch

from synthkern._checks import is_number
from synthkern._version import __version__
from synthkern.engine.product import chosen_product
from synthkern.model.build import BUILD_VERSION
from synthkern.stream import STREAM_VERSION
from synthkern.world.config import (
    LowRankCorrelationConfig,
    OrthogonalizationConfig,
    SyntheticModelConfig,
)
from synthkern.world.hierarchy import HierarchyConfig
from synthkern.world.listed import ListedFiringProbabilityConfig, ListedMagnitudeConfig
from synthkern.world.magnitude_distribution import (
    ExponentialMagnitudeDistribution,
    LognormalMagnitudeDistribution,
    NormalMagnitudeDistribution,
    ParetoMagnitudeDistribution,
)
from synthkern.world.magnitudes import (
    ConstantMagnitudeConfig,
    ExponentialMagnitudeConfig,
    FoldedNormalMagnitudeConfig,
    LinearMagnitudeConfig,
)
from synthkern.world.manifolds import ManifoldConfig
from synthkern.world.noise import NoiseConfig
from synthkern.world.probabilities import (
    ConstantFiringProbabilityConfig,
    LinearFiringProbabilityConfig,
    RandomFiringProbabilityConfig,
    ZipfianFiringProbabilityConfig,
)
from synthkern.world.sequence import SequenceConfig
from synthkern.world.shift import ShiftConfig
from synthkern.world.views import ViewsConfig

#: The parts of a config whose code is this package's; what a user wrote may be another tomorrow.
_OWN_PARTS = (
    ConstantFiringProbabilityConfig,
    ConstantMagnitudeConfig,
    ExponentialMagnitudeConfig,
    ExponentialMagnitudeDistribution,
    FoldedNormalMagnitudeConfig,
    HierarchyConfig,
    LinearFiringProbabilityConfig,
    LinearMagnitudeConfig,
    ListedFiringProbabilityConfig,
    ListedMagnitudeConfig,
    LognormalMagnitudeDistribution,
    LowRankCorrelationConfig,
    ManifoldConfig,
    NoiseConfig,
    NormalMagnitudeDistribution,
    OrthogonalizationConfig,
    ParetoMagnitudeDistribution,
    RandomFiringProbabilityConfig,
    SequenceConfig,
    ShiftConfig,
    ViewsConfig,
    ZipfianFiringProbabilityConfig,
)


def world_key(cfg: SyntheticModelConfig) -> str:
    """What a world is known by: 32 hexadecimal digits of all that decides its numbers.

    The number of threads is not among it, nor the processor: another one may round the vectors'
    last bits differently, and whichever built the world first is the one that counts.
    """
    decides = {
        "synthkern": __version__,
        "build": BUILD_VERSION,
        "stream": STREAM_VERSION,
        "torch": torch.__version__,
        "product": chosen_product(),
        "world": plain_config(cfg),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def is_worth_keeping(cfg: SyntheticModelConfig) -> bool:
    """Whether a world is the same every time, and takes longer to build than to load.

    On two cores SynthSAEBench-16k is built in 24 s and loaded in 0.15 s; without its
    orthogonalization both take 0.15 to 0.3 s, and SynthSAEBench-131k is loaded in 2.5 s where
    it is built in 2.3 s. Smaller ones likewise, and an orthogonalization of any size takes a new
    process a second, as PyTorch's optimizers load what they are made of.
    """
    parts = [getattr(cfg, f.name) for f in fields(SyntheticModelConfig)]
    is_own = type(cfg) is SyntheticModelConfig and all(_is_own(part) for part in parts)
    apart = cfg.orthogonalization
    is_slow = (apart is not None and apart.num_steps > 0) or is_calibrated(cfg)
    return is_own and is_slow and cfg.seed is not None


def is_calibrated(cfg: SyntheticModelConfig) -> bool:
    """Whether a world's base probabilities are found such that rates are as requested."""
    return cfg.hierarchy is not None and cfg.hierarchy.compensate_probabilities == "exact"


def _is_own(part: Any) -> bool:
    """Whether a part of a config is a plain value or of a class of this package, unchanged."""
    if part is None or isinstance(part, bool | str) or is_number(part):
        return True
    return type(part) in _OWN_PARTS and vars(part).keys() <= {f.name for f in fields(part)}


def plain_config(cfg: SyntheticModelConfig) -> dict[str, Any]:
    """A config as JSON has it, with one way to write a whole number: 5 and 5.0 are one world."""
    return plain_json(cfg.to_dict())


def plain_json(data: dict[str, Any]) -> dict[str, Any]:
    """A mapping as JSON has it, likewise."""
    found: dict[str, Any] = json.loads(json.dumps(data), parse_float=_number)
    return found


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number
