"""What decides the outcome of a training, by which a checkpoint is known to be of the same one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthkern.training.batch_source import BatchSource
from synthkern.training.config import TrainingConfig


def training_fingerprint(sae: Any, cfg: TrainingConfig, source: BatchSource) -> dict[str, Any]:
    """Settings, SAE, stream and world, as JSON has them."""
    settings = cfg.to_dict()
    for name in ("seed", "checkpoint_seconds", "cuda_graph"):
        del settings[name]
    fingerprint: dict[str, Any] = {"training": settings, "sae": type(sae).__name__}
    if callable(getattr(sae.cfg, "to_dict", None)):
        fingerprint["sae config"] = {**sae.cfg.to_dict(), "metadata": None}
    found: dict[str, Any] = json.loads(json.dumps(fingerprint | source.fingerprint(), default=str))
    return found


def check_same_training(directory: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first setting in which two fingerprints differ."""
    for place, before, after in _differences("", saved, now):
        raise ValueError(
            f"checkpoint_dir {directory} holds a run with {place} = {before!r}, got {after!r}: "
            "give another directory, or the settings of that run"
        )


def _differences(place: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            yield place, before, after
        return
    for name in {**before, **after}:
        inner = f"{place}.{name}" if place else name
        yield from _differences(inner, before.get(name), after.get(name))
