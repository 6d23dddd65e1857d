"""The worlds of a benchmark directory, built once: every process loads the same bits."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from synthkern.synthetic_model import SyntheticModel
from synthkern.training.runner import SYNTHETIC_MODEL_FOLDER
from synthkern.world.config import SyntheticModelConfig

_FOLDER = "worlds"


def built_world(directory: Path, source: dict[str, Any] | str, device: str) -> SyntheticModel:
    """The world of a config or a source, built and saved in a directory, or loaded from there.

    Processes that want one at once wait for the first to build it: what orthogonalization gives
    depends on the machine and its threads.
    """
    text = json.dumps(source, sort_keys=True)
    place = directory / _FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    saved = place / SYNTHETIC_MODEL_FOLDER
    if not saved.exists():
        opened = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if not saved.exists():
                _build(source).save(saved)
        finally:
            os.close(opened)
    return SyntheticModel.load_from_disk(saved, device)


def _build(source: dict[str, Any] | str) -> SyntheticModel:
    return SyntheticModel.load_from_source(
        source if isinstance(source, str) else SyntheticModelConfig.from_dict(source)
    )
