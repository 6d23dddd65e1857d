"""Where a suite's runs are logged: groups of Weights & Biases, folders of TensorBoard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthkern.storage.files import make_folder
from synthkern.suite.database import PlannedRun
from synthkern.suite.plan import axis_text

#: In the directory: TensorBoard's folders of the runs, by their names.
BOARDS_FOLDER = "tensorboard"

#: Characters of a tag that Weights & Biases takes.
_TAG = 64


def run_logging(run: PlannedRun) -> dict[str, Any]:
    """The settings of a run's logger, with what says which run of the suite it is.

    In Weights & Biases the suite is the run's group, its world, SAE and varied fields are tags, and
    its key is the id, under which a run that was cut off goes on.
    """
    settings: dict[str, Any] = dict(run.config["logger"])
    if not settings.get("log_to_wandb"):
        return settings
    names = {"world": run.world, "sae": run.sae, **run.axes}
    varied = (f"{name}={axis_text(value)}" for name, value in names.items())
    tags = [*(settings.get("wandb_tags") or ()), *varied]
    return {
        **settings,
        "run_name": f"{run.world}, {run_name(run)}",
        "wandb_group": settings.get("wandb_group") or run.suite,
        "wandb_tags": list(dict.fromkeys(tag[:_TAG] for tag in tags)),
        "wandb_id": settings.get("wandb_id") or run.key,
    }


def run_name(run: PlannedRun) -> str:
    """A run in its suite and world, in words."""
    l0 = "" if run.l0 is None else f", L0 {run.l0:g}"
    return f"{run.sae}{l0}, seed {run.seed}"


def link_boards(directory: Path, runs: Iterable[PlannedRun], folder: str) -> None:
    """Give the event files of runs names: links from their suite and world to where they are.

    Args:
        directory: of the suite.
        runs: of which those that write event files get a link.
        folder: of the runs, in the directory.
    """
    for run in runs:
        if not run.config["logger"].get("log_to_tensorboard"):
            continue
        parts = (_plain(part) for part in (run.suite, run.world, run_name(run)))
        link = directory.joinpath(BOARDS_FOLDER, *parts)
        make_folder(link.parent)
        target = os.path.relpath(directory / folder / run.key / "tensorboard", link.parent)
        # One that is there is this run's: names of a suite's runs differ. What is no link stays.
        with suppress(FileExistsError):
            link.symlink_to(target)


def _plain(name: str) -> str:
    """A name of characters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9.,=_ +-]+", "-", name).strip(". ")[:200] or "-"
