"""A small model on disk, what is done to its files, and how loading it must then fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import synthkern as synthetic

N, D = 30, 5

CONFIG = synthetic.SYNTHETIC_MODEL_CONFIG_FILENAME
WEIGHTS = synthetic.SYNTHETIC_MODEL_WEIGHTS_FILENAME
TREES = synthetic.SYNTHETIC_MODEL_HIERARCHY_FILENAME

Tensors = dict[str, torch.Tensor]


def world(**changes: Any) -> synthetic.SyntheticModel:
    fields: dict[str, Any] = {
        "hierarchy": synthetic.HierarchyConfig(
            4, 2, 2, mutually_exclusive_portion=0.5, scale_children_by_parent=True
        ),
        "correlation": synthetic.LowRankCorrelationConfig(3, 0.2),
        "seed": 7,
    }
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, **{**fields, **changes}))


def load(folder: Path) -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel.load_from_disk(folder)


def refused(path: Path, *parts: str) -> None:
    """Loading the directory of a file fails with the path and then, in this order, the parts."""
    pattern = ".*".join(map(re.escape, (str(path), *parts)))
    with pytest.raises(ValueError, match=re.compile(pattern, re.DOTALL)):
        load(path.parent)


def change_weights(folder: Path, change: Callable[[Tensors], Any], **metadata: str) -> Path:
    path = folder / WEIGHTS
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    safetensors.torch.save_file(tensors, path, metadata)
    return path


def change_json(folder: Path, name: str, change: Callable[[Any], Any]) -> Path:
    path = folder / name
    data = json.loads(path.read_text())
    replaced = change(data)
    path.write_text(json.dumps(data if replaced is None else replaced))
    return path
