"""Checkpoints: files that are replaced together, so that a crash leaves the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from synthkern.files import blaming, read_json, save_tensors, write_json
from synthkern.saved_folder import (
    SavedFiles,
    check_writable_folder,
    has_file,
    read_folder,
    saved_folder,
)
from synthkern.tensor_file import open_tensors
from synthkern.training.history import TrainingHistory, check_rows

_TENSORS, _VALUES = _FILENAMES = "training_state.safetensors", "training_state.json"

#: Changes whenever older checkpoints can no longer be continued.
_VERSION = 1


class Checkpoint(NamedTuple):
    """Where a training had got to.

    Attributes:
        recipe: what decides the outcome: settings, SAE, world, stream.
        values: of the trainer, as JSON has them.
        tensors: of the trainer.
        history: rows so far.
        progress: of the loop.
    """

    recipe: dict[str, Any]
    values: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    history: TrainingHistory
    progress: dict[str, Any]


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before."""
    with saved_folder(directory, _FILENAMES) as folder:
        save_tensors(folder / _TENSORS, checkpoint.tensors)
        write_json(
            folder / _VALUES,
            {
                "version": _VERSION,
                "recipe": checkpoint.recipe,
                "values": checkpoint.values,
                "progress": checkpoint.progress,
                "history": checkpoint.history.rows,
            },
            indent=None,
        )


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint in a directory, or None where there is none yet.

    Raises:
        ValueError: naming the file that is not what it should be.
    """
    return read_folder(directory, _FILENAMES, _read) if has_checkpoint(directory) else None


def has_checkpoint(directory: Path) -> bool:
    """Whether a training can be continued from a directory."""
    return has_file(directory, _VALUES)


def check_checkpoint_folder(directory: Path) -> None:
    """Raise an OSError where checkpoints could not be written: better known before than after."""
    check_writable_folder(directory, _FILENAMES)


def _read(files: SavedFiles) -> Checkpoint:
    values = files.path(_VALUES)
    data = read_json(values)
    with blaming(values):
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ValueError(f"this must be a checkpoint of version {_VERSION}")
        missing = {"recipe", "values", "progress", "history"} - data.keys()
        if missing:
            raise ValueError(f"{sorted(missing)} must be there")
        history = TrainingHistory(check_rows(data["history"]))
    with open_tensors(files.path(_TENSORS)) as file:
        tensors = file.read_all()
    return Checkpoint(data["recipe"], data["values"], tensors, history, data["progress"])
