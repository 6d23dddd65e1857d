"""Checkpoints: files that are replaced together, so that a crash leaves the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from synthkern._checks import check_finite, is_number
from synthkern.storage.files import errors_naming, read_json, save_tensors, write_json
from synthkern.storage.saved_folder import (
    SavedFiles,
    check_writable_folder,
    has_file,
    read_folder,
    saved_folder,
)
from synthkern.storage.tensor_file import open_tensors
from synthkern.training.history import TrainingHistory, check_rows


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


_TENSORS, _VALUES = _FILENAMES = "training_state.safetensors", "training_state.json"

#: Before the names of the optimizer's tensors: "adam.0.exp_avg".
_ADAM = "adam."

_NONE = torch.empty(0)

#: What the loop's progress holds, as far as it is there.
_PROGRESS: dict[str, Callable[[Any], bool]] = {
    "evaluated_step": _is_count,
    "snapshots": _is_count,
    "seconds": is_number,
}

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


def remove_checkpoint(directory: Path) -> None:
    """Remove a checkpoint, where there is one; whatever else is in the directory stays."""
    if directory.is_dir():
        with saved_folder(directory, _FILENAMES):
            pass


def has_checkpoint(directory: Path) -> bool:
    """Whether a training can be continued from a directory."""
    return has_file(directory, _VALUES)


@contextmanager
def continuing(directory: Path) -> Iterator[None]:
    """Errors of a training that goes on from a checkpoint name it: a damaged one may say anything.

    Raises:
        ValueError: in place of what such a file makes the code that takes it fail with.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, OverflowError) as e:
        what = f"it lacks {e}" if isinstance(e, KeyError) else str(e)
        raise ValueError(f"{directory} must hold a checkpoint of this training, but {what}") from e


def check_fits(
    saved: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    parameters: Sequence[torch.Tensor],
    steps: int,
) -> None:
    """Raise a ValueError unless the tensors of a checkpoint are those of such a trainer.

    Args:
        saved: of the checkpoint.
        fresh: of a trainer of the same settings that has done no step.
        parameters: that it trains, in the optimizer's order.
        steps: that the checkpoint's has done.
    """
    expected = {name: (value.shape, value.dtype) for name, value in fresh.items()}
    moments = {name.split(".")[1] for name in saved if name.startswith(_ADAM)}
    for index, parameter in enumerate(parameters):
        # One that no step has had a gradient for has none.
        if str(index) in moments:
            like = (parameter.shape, parameter.dtype)
            expected[f"{_ADAM}{index}.step"] = (torch.Size(), torch.float32)
            expected |= {f"{_ADAM}{index}.{name}": like for name in ("exp_avg", "exp_avg_sq")}
    # One that was written on a GPU goes on elsewhere.
    names = {name for name in saved if name in expected or not name.startswith("rng.")}
    for what, differing in (("lacks", expected.keys() - names), ("has", names - expected.keys())):
        differing -= {name for name in differing if name.startswith("rng.") and name != "rng.cpu"}
        if differing:
            raise ValueError(f"it {what} the tensors {sorted(differing)}")
    if steps and not moments:
        raise ValueError(f"it lacks the optimizer's tensors after {steps} steps")
    for name in names:
        shape, dtype = expected[name]
        value = saved[name]
        if value.shape != shape or value.dtype != dtype:
            raise ValueError(
                f"{name} must be {_name(dtype)} of shape {list(shape)}, got {_name(value.dtype)} "
                f"of shape {list(value.shape)}"
            )
        # What an SAE keeps besides its parameters may be infinite, if it is so from the start.
        if value.is_floating_point() and bool(fresh.get(name, _NONE).isfinite().all()):
            check_finite(name, value)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_checkpoint_folder(directory: Path) -> None:
    """Raise an OSError where checkpoints could not be written: better known before than after."""
    check_writable_folder(directory, _FILENAMES)


def _read(files: SavedFiles) -> Checkpoint:
    values = files.path(_VALUES)
    data = read_json(values)
    with errors_naming(values):
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ValueError(f"this must be a checkpoint of version {_VERSION}")
        missing = {"recipe", "values", "progress", "history"} - data.keys()
        if missing:
            raise ValueError(f"{sorted(missing)} must be there")
        for name in ("recipe", "values", "progress"):
            if not isinstance(data[name], dict):
                raise ValueError(f"{name} must be an object, got {data[name]!r}")
        stream = data["recipe"].get("stream", {})
        if not isinstance(stream, dict):
            raise ValueError(f"stream in recipe must be an object, got {stream!r}")
        for name, kind in _PROGRESS.items():
            if not kind(data["progress"].get(name, 0)):
                raise ValueError(f"{name} must be a number, got {data['progress'][name]!r}")
        history = TrainingHistory(check_rows(data["history"]))
    with open_tensors(files.path(_TENSORS)) as file:
        tensors = file.read_all()
    return Checkpoint(data["recipe"], data["values"], tensors, history, data["progress"])
