"""Checkpoints: one safetensors file, replaced whole, so that a crash leaves the one before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from synthkern._checks import check_finite, is_number
from synthkern.storage.files import errors_naming, parse_json, save_tensors
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


_FILENAME = "training_state.safetensors"

#: What is no tensor, as the bytes of JSON: long curves would not fit the 100 MB that safetensors
#: allows a header.
_JSON = "json"

#: Before the names of the optimizer's tensors: "adam.0.exp_avg".
_ADAM = "adam."

_NONE = torch.empty(0)

#: What the run's progress holds, as far as it is there.
_PROGRESS: dict[str, Callable[[Any], bool]] = {
    "evaluated_step": _is_count,
    "snapshots": _is_count,
    "seconds": is_number,
}

#: Changes whenever older checkpoints can no longer be continued.
_VERSION = 2


class Checkpoint(NamedTuple):
    """Where a training had got to.

    Attributes:
        fingerprint: what decides the outcome: settings, SAE, world, stream.
        trainer: its state, tensors and what JSON has, by name.
        history: rows so far.
        progress: of the run.
    """

    fingerprint: dict[str, Any]
    trainer: dict[str, Any]
    history: TrainingHistory
    progress: dict[str, Any]


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before."""
    tensors = tensors_in(checkpoint.trainer)
    data = {
        "version": _VERSION,
        "fingerprint": checkpoint.fingerprint,
        "trainer": {
            name: value for name, value in checkpoint.trainer.items() if name not in tensors
        },
        "progress": checkpoint.progress,
        "history": checkpoint.history.rows,
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    tensors[_JSON] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    with saved_folder(directory, [_FILENAME]) as folder:
        save_tensors(folder / _FILENAME, tensors)


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint in a directory, or None where there is none yet.

    Raises:
        ValueError: naming the file that is not what it should be.
    """
    return read_folder(directory, [_FILENAME], _read) if has_checkpoint(directory) else None


def remove_checkpoint(directory: Path) -> None:
    """Remove a checkpoint, where there is one; whatever else is in the directory stays."""
    if directory.is_dir():
        with saved_folder(directory, [_FILENAME]):
            pass


def has_checkpoint(directory: Path) -> bool:
    """Whether a training can be continued from a directory."""
    return has_file(directory, _FILENAME)


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


def tensors_in(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a trainer's state, by name."""
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_checkpoint_folder(directory: Path) -> None:
    """Raise an OSError where checkpoints could not be written: better known before than after."""
    check_writable_folder(directory, [_FILENAME])


def _read(files: SavedFiles) -> Checkpoint:
    path = files.path(_FILENAME)
    with open_tensors(path) as file:
        tensors = file.read_all()
    text = tensors.pop(_JSON, torch.empty(0, dtype=torch.uint8))
    with errors_naming(path):
        data = parse_json(text.numpy().tobytes()) if len(text) else None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise ValueError(
                f"this must be a checkpoint of version {_VERSION}: one that another version of the "
                "package wrote cannot be continued, give another directory"
            )
        missing = {"fingerprint", "trainer", "progress", "history"} - data.keys()
        if missing:
            raise ValueError(f"{sorted(missing)} must be there")
        for name in ("fingerprint", "trainer", "progress"):
            if not isinstance(data[name], dict):
                raise ValueError(f"{name} must be an object, got {data[name]!r}")
        stream = data["fingerprint"].get("stream", {})
        if not isinstance(stream, dict):
            raise ValueError(f"stream in fingerprint must be an object, got {stream!r}")
        for name, kind in _PROGRESS.items():
            if not kind(data["progress"].get(name, 0)):
                raise ValueError(f"{name} must be a number, got {data['progress'][name]!r}")
        history = TrainingHistory(check_rows(data["history"]))
    return Checkpoint(data["fingerprint"], data["trainer"] | tensors, history, data["progress"])
