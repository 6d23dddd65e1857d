"""Worlds as a command line names them."""

from __future__ import annotations

from pathlib import Path

from synthkern.files import blaming, read_json
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS
from synthkern.world.translate import translate_config


def load_world(name: str) -> SyntheticModelConfig:
    """The world that a preset's name or a JSON file's path stands for."""
    if name in PRESETS:
        return SyntheticModelConfig.preset(name)
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"WORLD must be a JSON file or one of {', '.join(PRESETS)}, got {name!r}")
    data = read_json(path)
    with blaming(path):
        return SyntheticModelConfig.from_dict(translate_config(data))


def world_or_source(name: str) -> SyntheticModelConfig | str:
    """A preset or a JSON file as its config; else a directory or REPO[:SUBFOLDER] as it is."""
    return load_world(name) if name in PRESETS or Path(name).is_file() else name
