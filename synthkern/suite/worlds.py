"""The worlds of a benchmark directory, built once: every process loads the same bits."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from synthkern.model.files import MODEL_FILENAMES, SYNTHETIC_MODEL_CONFIG_FILENAME
from synthkern.model.synthetic_model import SyntheticModel, local_folder
from synthkern.model.world_cache import WorldCache
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


def built_world(
    directory: Path, source: dict[str, Any] | str, device: str, cache: WorldCache | None = None
) -> SyntheticModel:
    """The world of a config or a source, built and saved in a directory, or loaded from there.

    It stays there whatever becomes of a cache that it was had from.

    Processes that want one at once wait for the first to build it: what orthogonalization gives
    depends on the machine and its threads.
    """
    identity = hashlib.sha256(world_identity(source).encode()).hexdigest()[:16]
    place = directory / WORLDS_FOLDER / identity
    place.mkdir(parents=True, exist_ok=True)
    saved = place / SYNTHETIC_MODEL_FOLDER
    if not has_file(saved, SYNTHETIC_MODEL_CONFIG_FILENAME):
        opened = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if not has_file(saved, SYNTHETIC_MODEL_CONFIG_FILENAME):
                _build(source, cache).save(saved)
        finally:
            os.close(opened)
    model = SyntheticModel.load_from_disk(saved, device)
    if isinstance(source, str):
        model.source = source
    return model


def _build(source: dict[str, Any] | str, cache: WorldCache | None) -> SyntheticModel:
    given = source if isinstance(source, str) else SyntheticModelConfig.from_dict(source)
    return SyntheticModel.load_from_source(given, cache=cache)
