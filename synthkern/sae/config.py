"""Recipes of sparse autoencoders: dataclasses that check themselves and round-trip through JSON."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch

from synthkern._checks import (
    as_bool,
    as_device,
    as_dtype,
    as_float,
    as_int,
    as_json,
    check_keys,
    plain_fields,
)
from synthkern.sae.normalization import EACH, OUTSIDE
from synthkern.sae.registry import get_architecture

#: The release of the field's package whose format is written: without one, its loaders take a
#: file for an old one, which they rewrite by rules of their own.
SAELENS_RELEASE = "6.54.12"

_Config = TypeVar("_Config", bound="TrainingSAEConfig")

#: The number of active latents that a training adjusts a sparsity coefficient to meet.
TARGET_L0 = "target_l0"

_RESHAPES = ("none", "hook_z")


class TrainCoefficientConfig(NamedTuple):
    """A loss's coefficient: its value, and the steps in which it grows to that from 0.

    Example:
        >>> import synthkern as synthetic
        >>> class SlowSAE(synthetic.StandardTrainingSAE):
        ...     def get_coefficients(self):
        ...         return {"l1": synthetic.TrainCoefficientConfig(value=0.5, warm_up_steps=100)}
        >>> sae = SlowSAE(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16))
        >>> synthetic.SAETrainer(sae, synthetic.TrainingConfig()).get_coefficients()
        {'l1': 0.0}
    """

    value: float
    warm_up_steps: int


class Metadata(dict[str, Any]):
    """A mapping whose keys are attributes too, as in SAELens: None where there is no such key."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def coefficient(value: float, warm_up_steps: int) -> TrainCoefficientConfig:
    """A :class:`TrainCoefficientConfig`; SAELens' own where SAELens is loaded.

    Its trainer takes no other, and the two have the same fields.
    """
    saelens: Any = sys.modules.get("sae_lens.saes.sae")
    made: Any = getattr(saelens, "TrainCoefficientConfig", TrainCoefficientConfig)
    found: TrainCoefficientConfig = made(value, warm_up_steps)
    return found


@dataclass
class TrainingSAEConfig(ABC):
    """What every architecture's config has.

    Attributes:
        d_in: D, the size of the input.
        d_sae: M, the number of latents.
        dtype: of the parameters, by name.
        device: of the parameters.
        apply_b_dec_to_input: whether the decoder's bias is subtracted from the input.
        normalize_activations: "none", or "expected_average_only_in": whoever trains scales the
            input by one number, so that its mean norm is sqrt(D). In files of SAELens, for use
            and not for training, also "constant_norm_rescale" and "layer_norm", see
            :func:`synthkern.sae.normalization.scaling_of`.
        reshape_activations: "none" or "hook_z", kept for the SAE's users; inputs come as [..., D].
        metadata: anything that JSON can hold; paths, dtypes, devices and arrays become that.
        decoder_init_norm: norm of the decoder's rows at the start (0.1 is Anthropic's heuristic
            of April 2024); None leaves them as drawn.

    Raises:
        ValueError: for a value outside its range.

    Example:
        >>> import synthkern as synthetic
        >>> data = {"architecture": "topk", "d_in": 8, "d_sae": 16, "k": 2}
        >>> type(synthetic.TrainingSAEConfig.from_dict(data)).__name__
        'TopKTrainingSAEConfig'
    """

    #: Names of the fields that inference does not need.
    training_only: ClassVar[frozenset[str]] = frozenset({"decoder_init_norm"})
    #: Values of fields that a file for inference leaves out, where they are not the defaults here.
    inference_defaults: ClassVar[Mapping[str, Any]] = {}
    #: Names of the fields that SAELens has not, which dictionaries have where they are not the
    #: defaults: what does without them stays as it was, and as SAELens writes it.
    beyond_saelens: ClassVar[frozenset[str]] = frozenset()
    #: What a number of active latents is asked for by: a field here, or TARGET_L0 for the
    #: training's; None where it cannot be.
    l0_setting: ClassVar[str | None] = None

    d_in: int
    d_sae: int
    dtype: str = "float32"
    device: str = "cpu"
    apply_b_dec_to_input: bool = True
    normalize_activations: str = "none"
    reshape_activations: str = "none"
    metadata: dict[str, Any] = field(default_factory=dict)
    decoder_init_norm: float | None = 0.1

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("d_in", self.d_in, low=1)
        as_int("d_sae", self.d_sae, low=1, high=2**31 - 1)
        self.dtype = str(as_dtype("dtype", self.dtype)).removeprefix("torch.")
        self.device = str(as_device("device", self.device))
        as_bool("apply_b_dec_to_input", self.apply_b_dec_to_input)
        check_choice("normalize_activations", self.normalize_activations, OUTSIDE + EACH)
        check_choice("reshape_activations", self.reshape_activations, _RESHAPES)
        if not isinstance(self.metadata, dict):
            raise TypeError(f"metadata must be a mapping, got {self.metadata!r}")
        self.metadata = Metadata(as_json("metadata", self.metadata))
        if self.decoder_init_norm is not None:
            # As an integer, torch takes none above 2**63.
            self.decoder_init_norm = as_float(
                "decoder_init_norm", self.decoder_init_norm, low=0, open_low=True
            )

    @property
    def output_width(self) -> int:
        """D of the reconstructions: ``d_in``, but of a transcoder."""
        return self.d_in

    @property
    def view_widths(self) -> tuple[int, ...] | None:
        """Of an SAE that is trained on tuples of tensors [B, D_v], their D_v; else None."""
        return None

    @classmethod
    @abstractmethod
    def architecture(cls) -> str:
        """The name that stands for this class in a dictionary."""

    @classmethod
    def inference_architecture(cls) -> str:
        """The name of the architecture that such an SAE is once it is trained."""
        return cls.architecture()

    def to_dict(self) -> dict[str, Any]:
        """The fields and ``architecture``; what SAELens has not where it is not the default."""
        values = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in self.beyond_saelens or getattr(self, f.name) != f.default
        }
        copied = {key: _copied(value) for key, value in values.items()}
        return {**copied, "architecture": self.architecture()}

    def get_inference_sae_cfg_dict(self) -> dict[str, Any]:
        """What a file for inference says, where the rest is among the metadata."""
        return inference_dict(self, as_dtype("dtype", self.dtype))

    def get_training_architecture_details(self) -> dict[str, Any]:
        """The fields that only training needs."""
        return training_fields(self)

    @classmethod
    def from_dict(cls: type[_Config], config_dict: Mapping[str, Any]) -> _Config:
        """The config that :meth:`to_dict` describes, of the class that its architecture names.

        Raises:
            ValueError: for an unknown architecture or key, or another class's architecture.
        """
        if not isinstance(config_dict, Mapping):
            raise TypeError(f"config_dict must be a mapping, got {config_dict!r}")
        found: type[Any] = cls
        if "architecture" in config_dict:
            found = get_architecture(config_dict["architecture"]).config_class
        if not issubclass(found, cls):
            raise ValueError(
                f"architecture must stand for a {cls.__name__}, got {config_dict['architecture']!r}"
            )
        values = {
            key: _copied(value) for key, value in config_dict.items() if key != "architecture"
        }
        check_keys("config_dict", values, {f.name for f in fields(found)})
        config: _Config = found(**values)
        return config


def training_dict(cfg: TrainingSAEConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The whole config of an SAE whose parameters are of that dtype."""
    # What users add to the metadata later is not checked by the config.
    metadata = {**origin(cfg), **as_json("metadata", cfg.metadata)}
    return {**cfg.to_dict(), "dtype": dtype_name(dtype), "metadata": metadata}


def inference_dict(cfg: TrainingSAEConfig, dtype: torch.dtype) -> dict[str, Any]:
    """What inference needs of it; the rest is among the metadata."""
    known = training_dict(cfg, dtype)
    kept = {name: known[name] for name in _inference_fields(cfg)}
    return {**kept, "metadata": known["metadata"], "architecture": cfg.inference_architecture()}


def origin(cfg: TrainingSAEConfig) -> dict[str, Any]:
    """What the field's files say of an SAE's training."""
    return {
        "sae_lens_version": SAELENS_RELEASE,
        "training_architecture": cfg.architecture(),
        "training_architecture_details": training_fields(cfg),
    }


def training_fields(cfg: TrainingSAEConfig) -> dict[str, Any]:
    """The fields of a config that inference does not need, by name."""
    known, kept = cfg.to_dict(), {*_inference_fields(cfg), "metadata", "architecture"}
    return {name: value for name, value in known.items() if name not in kept}


def _inference_fields(cfg: TrainingSAEConfig) -> list[str]:
    target = get_architecture(cfg.inference_architecture()).config_class
    known = {f.name for f in fields(target)} - target.training_only
    return [f.name for f in fields(cfg) if f.name in known]


def dtype_name(dtype: torch.dtype) -> str:
    """As configs have it: "float32"."""
    return str(dtype).removeprefix("torch.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (dict, list)) else value
