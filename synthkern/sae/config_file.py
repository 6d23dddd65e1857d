"""What an SAE's cfg.json says: in our words and the field's, for training and for inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from synthkern._checks import as_json
from synthkern.sae.config import TrainingSAEConfig, architecture_class

#: The release of the field's package whose format is written: without one, its loaders take a
#: file for an old one, which they rewrite by rules of their own.
SAELENS_RELEASE = "6.54.12"

#: Keys that the field's files have beside an SAE's own: where it was trained and what by.
_PROVENANCE = {
    "sae_lens_version",
    "sae_lens_training_version",
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "hook_name",
    "hook_layer",
    "hook_head_index",
    "dataset_path",
    "context_size",
    "prepend_bos",
    "seqpos_slice",
    "exclude_special_tokens",
    "neuronpedia_id",
}

_MISSING = object()


def training_dict(cfg: TrainingSAEConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The whole config of an SAE whose parameters are of that dtype."""
    # What users add to the metadata later is not checked by the config.
    metadata = {**_origin(cfg), **as_json("metadata", cfg.metadata)}
    return {**cfg.to_dict(), "dtype": _name(dtype), "metadata": metadata}


def inference_dict(cfg: TrainingSAEConfig, dtype: torch.dtype) -> dict[str, Any]:
    """What inference needs of it; the rest is among the metadata."""
    known = training_dict(cfg, dtype)
    kept = {name: known[name] for name in _inference_fields(cfg)}
    return {**kept, "metadata": known["metadata"], "architecture": cfg.inference_architecture()}


def config_of(data: Any, *, device: str, dtype: torch.dtype | None) -> TrainingSAEConfig:
    """The config of a cfg.json of either kind; fields of training that it lacks are the defaults.

    Args:
        data: as read from JSON.
        device: in place of the file's.
        dtype: in place of the file's, or None.

    Raises:
        ValueError: for a missing key, an unknown one or architecture, a value out of range.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"an SAE's config must be a mapping, got {data!r}")
    if "architecture" not in data:
        raise ValueError(f"an SAE's config must have the key 'architecture', got {sorted(data)}")
    config_class = architecture_class(data["architecture"]).config_class
    values = {**data, "device": device}
    metadata = values.pop("metadata", {})
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a mapping, got {metadata!r}")
    beside = {key: values.pop(key) for key in sorted(_PROVENANCE & values.keys())}
    values["metadata"] = {**beside, **metadata}
    for required in ("d_in", "d_sae"):
        if required not in values:
            raise ValueError(f"an SAE's config must have the key {required!r}, got {sorted(data)}")
    if "decoder_init_norm" not in values:  # for inference
        values = {**config_class.inference_defaults, **values}
    if dtype is not None:
        values["dtype"] = _name(dtype)
    cfg = TrainingSAEConfig.from_dict(values)
    # What writing adds, reading takes away.
    origin = _origin(cfg)
    cfg.metadata = {
        key: value for key, value in cfg.metadata.items() if origin.get(key, _MISSING) != value
    }
    return cfg


def _origin(cfg: TrainingSAEConfig) -> dict[str, Any]:
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
    target = architecture_class(cfg.inference_architecture()).config_class
    known = {f.name for f in fields(target)} - target.training_only
    return [f.name for f in fields(cfg) if f.name in known]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
