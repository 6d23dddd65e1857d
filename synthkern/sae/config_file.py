"""What an SAE's cfg.json says: in our words and the field's, for training and for inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from synthkern.sae.config import TrainingSAEConfig, dtype_name, origin
from synthkern.sae.registry import get_architecture

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


def is_inference_config(data: Mapping[str, Any]) -> bool:
    """Whether a cfg.json is of an SAE for inference: it lacks what only training needs."""
    return "decoder_init_norm" not in data


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
    config_class = get_architecture(data["architecture"]).config_class
    values = {**data, "device": device}
    metadata = values.pop("metadata", {})
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a mapping, got {metadata!r}")
    beside = {key: values.pop(key) for key in sorted(_PROVENANCE & values.keys())}
    values["metadata"] = {**beside, **metadata}
    for required in ("d_in", "d_sae"):
        if required not in values:
            raise ValueError(f"an SAE's config must have the key {required!r}, got {sorted(data)}")
    if is_inference_config(data):
        values = {**config_class.inference_defaults, **values}
    if dtype is not None:
        values["dtype"] = dtype_name(dtype)
    cfg = TrainingSAEConfig.from_dict(values)
    # What writing adds, reading takes away.
    written = origin(cfg)
    cfg.metadata = {
        key: value for key, value in cfg.metadata.items() if written.get(key, _MISSING) != value
    }
    return cfg
