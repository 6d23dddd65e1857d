"""Samples of a model written to disk: shards that are whole or not there, and a manifest."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from synthkern._checks import as_int, as_seed, plain_fields
from synthkern.model.files import MODEL_FILENAMES, SYNTHETIC_MODEL_CONFIG_FILENAME
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.model.world_cache import WorldCache
from synthkern.storage.files import (
    errors_naming,
    file_hash,
    make_folder,
    read_json,
    save_tensors,
    write_json,
)
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder, has_file
from synthkern.stream import STREAM_VERSION
from synthkern.world.config import SyntheticModelConfig

MANIFEST_FILENAME = "manifest.json"
MODEL_DIRECTORY = "model"

#: What a shard holds: hidden activations, features in CSR form, or both.
What = Literal["hidden", "features", "both"]
WHAT: tuple[What, ...] = ("hidden", "features", "both")

#: Of a shard in the manifest, once it is written: the SHA-256 of the file, in hexadecimal digits.
_DIGEST = "sha256"

#: Seconds between two manifests of a run; a shard whose digest is in none is written again.
_MANIFEST_SECONDS = 5.0


@dataclass(frozen=True)
class SampleJob:
    """What is to be written.

    Attributes:
        cfg: the world.
        samples: how many, at least 0.
        seed: of the samples' stream, in [0, 2**64).
        start: index of the first sample, in [0, 2**64).
        batch_size: samples in a shard, at least 1.
        what: "hidden", "features" or "both".
    """

    cfg: SyntheticModelConfig
    samples: int
    seed: int
    start: int = 0
    batch_size: int = 16384
    what: What = "hidden"

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("samples", self.samples, low=0)
        as_seed("seed", self.seed)
        as_int("start", self.start, low=0, high=2**64 - 1)
        as_int("batch_size", self.batch_size, low=1)
        if self.what not in WHAT:
            raise ValueError(f"what must be one of {', '.join(WHAT)}, got {self.what!r}")

    def shards(self) -> list[tuple[str, int, int]]:
        """File name, offset from ``start`` and number of samples of every shard."""
        firsts = range(0, self.samples, self.batch_size)
        return [
            (f"shard-{number:06d}.safetensors", first, min(self.batch_size, self.samples - first))
            for number, first in enumerate(firsts)
        ]

    def manifest(self) -> dict[str, Any]:
        """All that decides the bytes of the shards, and their names."""
        return {
            "format": "synthkern-samples",
            "stream_version": STREAM_VERSION,
            "seed": self.seed,
            "start": self.start,
            "samples": self.samples,
            "batch_size": self.batch_size,
            "what": self.what,
            "world": self.cfg.to_dict(),
            "shards": [
                {"file": name, "start": (self.start + first) % 2**64, "samples": count}
                for name, first, count in self.shards()
            ],
        }


def write_samples(
    job: SampleJob,
    directory: AnyPath,
    *,
    show_progress: bool = True,
    cache: WorldCache | None = None,
) -> int:
    """Write a job's shards to a directory, or those that are still missing there.

    The directory gets a manifest, the model (``model/``, as :meth:`SyntheticModel.save` writes
    it) and one safetensors file a shard: ``hidden`` [B, D], or ``offsets``, ``indices`` and
    ``values`` of the features in CSR form, or all four. The manifest has the SHA-256 of every
    shard; one that is not what it was, or whose writing was not noted, is written again. Every
    file is written under a temporary name and renamed. Run again after an interruption it
    continues, with the model that it saved, and ends with the same bytes.

    Args:
        job: what to write.
        directory: made where it does not exist.
        show_progress: whether to show a bar with samples/s.
        cache: where the world may be had from; see :meth:`SyntheticModel.load_from_source`.

    Returns:
        The number of samples that were still missing.

    Raises:
        ValueError: where the directory holds the samples of another job.
        OSError: naming what cannot be read or written.
    """
    folder = as_path("directory", directory)
    digests = _claim(folder, job)
    _clear_leftovers(folder)
    digests = {
        name: digests[name] for name, _, _ in job.shards() if _is_whole(folder / name, digests)
    }
    missing = [shard for shard in job.shards() if shard[0] not in digests]
    count = sum(size for _, _, size in missing)
    if not missing:
        return 0
    # Whatever cannot be written is better known before than after.
    check_writable_folder(folder, [MANIFEST_FILENAME, *(name for name, _, _ in missing)])
    if not has_file(folder / MODEL_DIRECTORY, SYNTHETIC_MODEL_CONFIG_FILENAME):
        check_writable_folder(folder / MODEL_DIRECTORY, MODEL_FILENAMES)
    model = _model(folder / MODEL_DIRECTORY, job.cfg, cache)
    with tqdm(
        total=job.samples,
        initial=job.samples - count,
        unit=" samples",
        unit_scale=True,
        disable=not show_progress,
    ) as progress:
        noted_at = time.monotonic()
        try:
            for name, first, size in missing:
                tensors = _draw(model, job, (job.start + first) % 2**64, size)
                save_tensors(folder / name, tensors)
                digests[name] = file_hash(folder / name)
                progress.update(size)
                if time.monotonic() - noted_at > _MANIFEST_SECONDS:
                    _note(folder, job, digests)
                    noted_at = time.monotonic()
        finally:
            _note(folder, job, digests)
    return count


def _note(folder: Path, job: SampleJob, digests: Mapping[str, str]) -> None:
    """Write the manifest with the digests that there are."""
    manifest = job.manifest()
    for shard in manifest["shards"]:
        if shard["file"] in digests:
            shard[_DIGEST] = digests[shard["file"]]
    write_json(folder / MANIFEST_FILENAME, manifest)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a run that was killed left under temporary names."""
    for name in ("shard-*.safetensors", MANIFEST_FILENAME):
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink()


def _claim(folder: Path, job: SampleJob) -> dict[str, str]:
    """Leave the job's manifest in the folder, or make sure that it is the one there.

    Gives the digests of its shards, by file.
    """
    path = folder / MANIFEST_FILENAME
    wanted = json.loads(json.dumps(job.manifest()))
    if path.exists():
        found = read_json(path)
        with errors_naming(path):
            digests = _take_digests(found)
        differing = sorted(key for key in wanted if found.get(key) != wanted[key])
        if differing:
            key = differing[0]
            raise ValueError(
                f"{folder} must be empty or hold samples of the same job, but its manifest has "
                f"another {', '.join(differing)}: {key} = {found.get(key)!r}, not {wanted[key]!r}"
            )
        return digests
    make_folder(folder)
    present = next(folder.glob("shard-*.safetensors"), None)
    if present is not None:
        raise ValueError(
            f"{folder} must be empty or hold a manifest, got {present.name} without one"
        )
    write_json(path, job.manifest())
    return {}


def _take_digests(manifest: Any) -> dict[str, str]:
    """Take the digests out of a manifest, which then is as one of nothing written."""
    shards = manifest.get("shards") if isinstance(manifest, dict) else None
    if not isinstance(shards, list) or not all(isinstance(shard, dict) for shard in shards):
        raise ValueError("this must be a manifest of samples, with a list of shards")
    found = {}
    for shard in shards:
        name, digest = shard.get("file"), shard.pop(_DIGEST, None)
        if isinstance(name, str) and isinstance(digest, str):
            found[name] = digest
    return found


def _model(folder: Path, cfg: SyntheticModelConfig, cache: WorldCache | None) -> SyntheticModel:
    if not has_file(folder, SYNTHETIC_MODEL_CONFIG_FILENAME):
        model = SyntheticModel.load_from_source(cfg, cache=cache)
        model.save(folder)
        # What a run that continues loads samples the same bits.
        return model
    model = SyntheticModel.load_from_disk(folder)
    if model.cfg.to_dict() != json.loads(json.dumps(cfg.to_dict())):
        raise ValueError(f"{folder} must hold the job's model, but its config is another one")
    return model


def _draw(model: SyntheticModel, job: SampleJob, start: int, size: int) -> dict[str, torch.Tensor]:
    if job.what == "hidden":
        return {"hidden": model.sample(size, seed=job.seed, start=start)}
    if job.what == "features":
        features, tensors = model.sample_sparse(size, seed=job.seed, start=start), {}
    else:
        hidden, features = model.sample_with_features(size, sparse=True, seed=job.seed, start=start)
        tensors = {"hidden": hidden}
    csr = {"offsets": features.offsets, "indices": features.indices, "values": features.values}
    return {**tensors, **csr}


def _is_whole(path: Path, digests: Mapping[str, str]) -> bool:
    """Whether a shard is there as it was written; what cannot be read, or was not noted, is not."""
    if path.name not in digests or not path.exists():
        return False
    with suppress(ValueError, OSError):
        return file_hash(path) == digests[path.name]
    return False
