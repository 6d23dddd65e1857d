"""How much the dictionaries of runs that differ in nothing but the seed are like each other."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from synthkern.evaluation.agreement import dictionary_agreement
from synthkern.sae.files import SAE_WEIGHTS_FILENAME
from synthkern.storage.saved_folder import SavedFiles, read_folder
from synthkern.storage.tensor_file import open_tensors
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.worker import run_folder

#: The figure's name among a run's.
SEED_AGREEMENT = "seed_agreement"

#: Numbers in the decoders of a group that are held at once: 4 GiB of float32.
_LARGEST = 2**30


def note_agreement(
    database: RunDatabase, runs: Sequence[Run], directory: Path, new: Collection[str]
) -> None:
    """Note for each finished run the mean MCC of its decoder with those of its other seeds.

    Args:
        database: of the runs; those that are done in another file are left out.
        runs: of one suite.
        directory: of the runs' folders.
        new: keys of runs that were done since.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        config = {name: each for name, each in run.config.items() if name != "seed"}
        place = json.dumps([run.world, run.sae, run.l0, config], sort_keys=True)
        groups.setdefault(place, []).append(run)
    for group in groups.values():
        done = [run for run in group if run.state == "done" and _is_own(database, run)]
        known = all(SEED_AGREEMENT in run.metrics for run in done)
        if len(done) < 2 or (known and not any(run.key in new for run in done)):
            continue
        found = {run.key: _decoder(run_folder(directory, run.key)) for run in done}
        decoders = {key: each for key, each in found.items() if each is not None}
        if sum(each.numel() for each in decoders.values()) > _LARGEST:
            continue
        agreement = dictionary_agreement(list(decoders.values()))
        for key, value in zip(decoders, agreement, strict=True):
            database.note(key, {SEED_AGREEMENT: value})


def _is_own(database: RunDatabase, run: Run) -> bool:
    with suppress(KeyError):
        return database.state(run.key) == "done"
    return False


def _decoder(folder: Path) -> torch.Tensor | None:
    """The decoder of a saved SAE; None where there is none that can be read and is finite."""

    def read(files: SavedFiles) -> torch.Tensor | None:
        if not files.has(SAE_WEIGHTS_FILENAME):
            return None
        with open_tensors(files.path(SAE_WEIGHTS_FILENAME)) as file:
            return file.read("W_dec") if "W_dec" in file.tensors else None

    with suppress(OSError, ValueError):
        decoder = read_folder(folder, [SAE_WEIGHTS_FILENAME], read)
        if decoder is not None and decoder.dim() == 2 and bool(decoder.isfinite().all()):
            return decoder
    return None
