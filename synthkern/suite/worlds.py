"""The worlds of a benchmark directory, built once: every process loads the same bits."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthkern.model.build import build_correlation, build_generator, build_hierarchy
from synthkern.model.files import MODEL_FILENAMES, SYNTHETIC_MODEL_CONFIG_FILENAME
from synthkern.model.fingerprint import config_fingerprint, have_same_numbers
from synthkern.model.signal_to_noise import has_its_noise
from synthkern.model.synthetic_model import SyntheticModel, local_folder
from synthkern.model.world_cache import WorldCache
from synthkern.model.world_key import is_calibrated
from synthkern.storage.files import file_hash
from synthkern.storage.saved_folder import has_file
from synthkern.training.runner import SYNTHETIC_MODEL_FOLDER
from synthkern.world.config import SyntheticModelConfig

#: Of the worlds, in the directory.
WORLDS_FOLDER = "worlds"


def world_identity(source: dict[str, Any] | str) -> str:
    """A text that tells a world from others: a saved model by what its files hold."""
    folder = local_folder("source", source) if isinstance(source, str) else None
    if folder is not None:
        files = [folder / name for name in MODEL_FILENAMES]
        return "\n".join(f"{file_hash(file)} {file.name}" for file in files if file.exists())
    return json.dumps(source, sort_keys=True)


def saved_world(directory: Path, source: dict[str, Any] | str) -> Path:
    """The folder, in a directory, of the world of a config or a source."""
    identity = hashlib.sha256(world_identity(source).encode()).hexdigest()[:16]
    return directory / WORLDS_FOLDER / identity / SYNTHETIC_MODEL_FOLDER


def is_built(saved: Path) -> bool:
    """Whether a world's folder holds it."""
    return has_file(saved, SYNTHETIC_MODEL_CONFIG_FILENAME)


def built_world(
    directory: Path, source: dict[str, Any] | str, device: str, cache: WorldCache | None = None
) -> SyntheticModel:
    """The world of a config or a source, built and saved in a directory, or loaded from there.

    It stays there whatever becomes of a cache that it was had from.
    """
    saved = saved_world(directory, source)
    keep_world(saved, lambda: _build(source, cache).save(saved))
    return load_world(saved, source, device)


def keep_world(saved: Path, save: Callable[[], None]) -> None:
    """Let ``save`` fill a world's folder, unless it is filled.

    Processes that want one at once wait for the first to do it: what orthogonalization gives
    depends on the machine and its threads.
    """
    saved.parent.mkdir(parents=True, exist_ok=True)
    if is_built(saved):
        return
    opened = os.open(saved.parent, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        if not is_built(saved):
            save()
    finally:
        os.close(opened)


def load_world(saved: Path, source: dict[str, Any] | str, device: str) -> SyntheticModel:
    """A world from its folder, that goes by the name of its source."""
    model = SyntheticModel.load_from_disk(saved, device)
    if isinstance(source, str):
        model.source = source
    return model


def config_of(source: dict[str, Any] | str, model: SyntheticModel) -> str | None:
    """The fingerprint of the config that a suite's world is of.

    That of a saved model says so only where the model has the rates, magnitudes, correlation, trees
    and noise that its config gives; None where somebody changed them, or they cannot be told.
    """
    cfg = model.cfg
    if isinstance(source, str):
        if cfg.seed is None or is_calibrated(cfg):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the config asks for, which was told before
            built = build_generator(cfg, build_hierarchy(cfg), build_correlation(cfg))
        if not have_same_numbers(model.activation_generator, built) or not has_its_noise(model):
            return None
    return config_fingerprint(cfg)


def _build(source: dict[str, Any] | str, cache: WorldCache | None) -> SyntheticModel:
    given = source if isinstance(source, str) else SyntheticModelConfig.from_dict(source)
    return SyntheticModel.load_from_source(given, cache=cache)
