"""The recipe of a whole world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from synthkern._checks import (
    as_dtype,
    as_float,
    as_int,
    as_seed,
    check_keys,
    is_number,
    plain_fields,
)
from synthkern.world.foreign import as_config, is_foreign
from synthkern.world.hierarchy import HierarchyConfig
from synthkern.world.magnitude_distribution import (
    MagnitudeDistribution,
    as_magnitude_distribution,
    short_magnitude_distribution,
)
from synthkern.world.magnitudes import MagnitudeConfig, as_magnitude_config
from synthkern.world.manifolds import ManifoldConfig
from synthkern.world.noise import NoiseConfig
from synthkern.world.presets import PRESETS
from synthkern.world.probabilities import FiringProbabilityConfig, ZipfianFiringProbabilityConfig
from synthkern.world.registry import PlainConfig
from synthkern.world.sequence import SequenceConfig
from synthkern.world.shift import ShiftConfig
from synthkern.world.translate import translate_config
from synthkern.world.views import ViewsConfig


@dataclass
class OrthogonalizationConfig(PlainConfig):
    """How feature vectors are pushed apart; see :func:`synthkern.orthogonalize_embeddings`.

    Attributes:
        num_steps: of Adam, at least 0.
        lr: above 0.
        chunk_size: rows of the gradient made at a time.

    Example:
        >>> import synthkern as synthetic
        >>> apart = synthetic.OrthogonalizationConfig(num_steps=20, lr=0.1)
        >>> cfg = synthetic.SyntheticModelConfig(8, 8, orthogonalization=apart, seed=0)
        >>> dictionary = synthetic.SyntheticModel(cfg).feature_dict
        >>> synthetic.compute_superposition_stats(dictionary).mean_max_abs_cos_sim < 0.1
        True
    """

    _called = "orthogonalization"

    num_steps: int = 200
    lr: float = 0.01
    chunk_size: int = 1024

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("num_steps", self.num_steps, low=0)
        as_float("lr", self.lr, low=0, open_low=True)
        as_int("chunk_size", self.chunk_size, low=1)


@dataclass
class LowRankCorrelationConfig(PlainConfig):
    """A random low-rank correlation.

    See :func:`synthkern.generate_random_low_rank_correlation_matrix`.

    Attributes:
        rank: number of factors, at least 1.
        correlation_scale: standard deviation of the loadings, at least 0.
        seed: of the loadings; where None, one derived from the world's seed. SAELens has the
            field and always takes the derived one: of its own config it is left out.

    Example:
        >>> import synthkern as synthetic
        >>> correlation = synthetic.LowRankCorrelationConfig(rank=2, correlation_scale=0.3)
        >>> cfg = synthetic.SyntheticModelConfig(8, 4, correlation=correlation, seed=0)
        >>> synthetic.SyntheticModel(cfg).correlation_matrix.correlation_factor.shape
        torch.Size([8, 2])
    """

    _called = "correlation"

    rank: int = 32
    correlation_scale: float = 0.1
    seed: int | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("rank", self.rank, low=1)
        as_float("correlation_scale", self.correlation_scale, low=0)
        if self.seed is not None:
            as_seed("seed", self.seed)


#: Parts of a world that SAELens does not have, each off where it is None.
_BEYOND: dict[str, type[PlainConfig]] = {
    "sequence": SequenceConfig,
    "noise": NoiseConfig,
    "views": ViewsConfig,
    "shift": ShiftConfig,
    "manifolds": ManifoldConfig,
}


@dataclass
class SyntheticModelConfig:
    """The recipe of a synthetic model.

    Attributes:
        num_features: N, at least 1.
        hidden_dim: D, at least 1.
        firing_probability: base probabilities.
        hierarchy: a random forest, or None.
        orthogonalization: of the feature vectors, or None.
        correlation: a random copula, or None for independent firing.
        std_firing_magnitudes: a number or a config.
        mean_firing_magnitudes: a number or a config.
        bias: False, True (norm 1) or the norm of the hidden bias.
        dtype: of activations and hidden activations; a torch.dtype becomes its name.
        seed: of the world (not of its samples), of which torch's generator takes the low 32 bits;
            None builds another world each time.
        magnitude_distribution: of a feature's magnitudes about its mean and deviation: "normal",
            "lognormal", "exponential", "pareto", or a config such as
            :class:`LognormalMagnitudeDistribution`, with which they can be correlated.
        sequence: samples are positions of sequences; or None.
        noise: in hidden activations, or None.
        views: further dictionaries over the features, or None.
        shift: what differs in the world's shifted twin, or None.
        manifolds: features that are circles, or None.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=16, hidden_dim=4, seed=0)
        >>> synthetic.SyntheticModel(cfg).sample(batch_size=3, seed=0).shape
        torch.Size([3, 4])
        >>> synthetic.SyntheticModelConfig.preset("synth-sae-bench-16k").num_features
        16384
    """

    num_features: int
    hidden_dim: int
    firing_probability: FiringProbabilityConfig = field(
        default_factory=ZipfianFiringProbabilityConfig
    )
    hierarchy: HierarchyConfig | None = None
    orthogonalization: OrthogonalizationConfig | None = None
    correlation: LowRankCorrelationConfig | None = None
    std_firing_magnitudes: float | MagnitudeConfig = 0.0
    mean_firing_magnitudes: float | MagnitudeConfig = 1.0
    bias: bool | float = 1.0
    dtype: str = "float32"
    seed: int | None = None
    magnitude_distribution: str | MagnitudeDistribution = "normal"
    sequence: SequenceConfig | None = None
    noise: NoiseConfig | None = None
    views: ViewsConfig | None = None
    shift: ShiftConfig | None = None
    manifolds: ManifoldConfig | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("num_features", self.num_features, low=1)
        as_int("hidden_dim", self.hidden_dim, low=1)
        probability = FiringProbabilityConfig.adopt(self.firing_probability)
        if probability is None:
            raise TypeError(
                "firing_probability must be a FiringProbabilityConfig, "
                f"got {self.firing_probability!r}"
            )
        self.firing_probability = probability
        kinds: dict[str, type[Any]] = {
            "hierarchy": HierarchyConfig,
            "orthogonalization": OrthogonalizationConfig,
            "correlation": LowRankCorrelationConfig,
            **_BEYOND,
        }
        for name, kind in kinds.items():
            if getattr(self, name) is not None:
                setattr(self, name, as_config(name, _seedless(getattr(self, name)), kind))
        for name in ("std_firing_magnitudes", "mean_firing_magnitudes"):
            value = getattr(self, name)
            # A number stays one.
            config = as_magnitude_config(name, value)
            if not is_number(value):
                setattr(self, name, config)
            elif name == "std_firing_magnitudes":
                as_float(name, value, low=0)
        if self.noise is not None and self.noise.rank >= self.hidden_dim:
            raise ValueError(
                f"noise.rank must be below hidden_dim = {self.hidden_dim}, got {self.noise.rank}"
            )
        self.magnitude_distribution = short_magnitude_distribution(
            as_magnitude_distribution("magnitude_distribution", self.magnitude_distribution)
        )
        if not isinstance(self.bias, bool):
            as_float("bias", self.bias, low=0)
        self.dtype = str(as_dtype("dtype", self.dtype)).removeprefix("torch.")
        if self.seed is not None:
            as_seed("seed", self.seed)
        if self.views is not None:
            self.views.check_world(self.num_features, self.hidden_dim)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON types; parts that SAELens has not are left out where they are off."""
        found = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        off = [name for name in _BEYOND if found[name] is None]
        if found["magnitude_distribution"] == "normal":
            off.append("magnitude_distribution")
        return {name: part for name, part in found.items() if name not in off}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> SyntheticModelConfig:
        """The recipe that :meth:`to_dict` describes; unknown keys are refused. A key ``preset``
        names one whose fields stand where the others say nothing.

        Example:
            >>> import synthkern as synthetic
            >>> data = {"preset": "synth-sae-bench-1k", "seed": 7}
            >>> synthetic.SyntheticModelConfig.from_dict(data).num_features
            1024
        """
        if isinstance(d, Mapping) and "preset" in d:
            rest = {key: value for key, value in d.items() if key != "preset"}
            d = {**cls.preset(d["preset"]).to_dict(), **rest}
        check_keys("config", d, {f.name for f in fields(cls)})
        missing = sorted({"num_features", "hidden_dim"} - set(d))
        if missing:
            raise ValueError(f"config must have the keys {missing}, got {sorted(d)}")
        return cls(**{key: _parse(key, value) for key, value in d.items()})

    @classmethod
    def preset(cls, name: str) -> SyntheticModelConfig:
        """A published or customary world by its name.

        ``synth-sae-bench-16k`` is the standard workload of SynthSAEBench (arXiv 2602.14687):
        16,384 features in 768 dimensions, the Hub's "-v2". ``-16k-v1`` is the Hub's of that name,
        which lacks ``scale_children_by_parent``. ``-1k`` and ``-4k`` are relatives for a laptop,
        with fewer trees and dimensions; ``-131k`` and ``-1m`` are the large ones, with a tree for
        every 64 features and no orthogonalization.

        Raises:
            ValueError: for an unknown name; lists the known ones.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"name must be one of {sorted(PRESETS)}, got {name!r}")
        return cls.from_dict(PRESETS[name])


def as_model_config(name: str, value: Any) -> SyntheticModelConfig:
    """A world's recipe as it is; SAELens' as ours, with laws that its user wrote.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, SyntheticModelConfig):
        return value
    if not is_foreign(value, SyntheticModelConfig):
        raise TypeError(f"{name} must be a SyntheticModelConfig, got {value!r}")
    names = [f.name for f in fields(SyntheticModelConfig)]
    parts = {name: getattr(value, name) for name in names if hasattr(value, name)}
    for part in ("hierarchy", "orthogonalization", "correlation"):
        parts[part] = _plain(_seedless(parts[part]))
    return SyntheticModelConfig.from_dict(translate_config(parts))


_PARSERS = {
    "firing_probability": FiringProbabilityConfig.from_dict,
    "hierarchy": HierarchyConfig.from_dict,
    "orthogonalization": OrthogonalizationConfig.from_dict,
    "correlation": LowRankCorrelationConfig.from_dict,
    "std_firing_magnitudes": MagnitudeConfig.from_dict,
    "mean_firing_magnitudes": MagnitudeConfig.from_dict,
    **{name: kind.from_dict for name, kind in _BEYOND.items()},
}


def _seedless(value: Any) -> Any:
    """SAELens' correlation config without its seed, by which SAELens draws nothing."""
    is_ours = isinstance(value, LowRankCorrelationConfig)
    if is_ours or not is_foreign(value, LowRankCorrelationConfig):
        return value
    return LowRankCorrelationConfig.from_dict({**value.to_dict(), "seed": None})


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value


def _parse(key: str, value: Any) -> Any:
    return _PARSERS[key](value) if key in _PARSERS and isinstance(value, Mapping) else value
