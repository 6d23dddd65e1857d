"""What is done on the nodes of a Ray cluster: tasks of runs, and worlds that are built."""

from __future__ import annotations

import gc
import json
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern.model.synthetic_model import SyntheticModel
from synthkern.storage.files import read_bytes, write_atomically
from synthkern.suite.database import PlannedRun
from synthkern.suite.executor import Job
from synthkern.suite.worker import RUNS_FOLDER, Worker, run_folder
from synthkern.suite.worlds import built_world, load_world, saved_world
from synthkern.training.runner import CHECKPOINT_FOLDER, RUNNER_CONFIG_FILENAME

#: Seconds between two messages of a task.
_EVERY = 0.1

#: The last that a task says.
_LAST = ("ended", "fatal")

#: Files by name: arrays of bytes, which processes of a node read where the object store has them.
Files = dict[str, npt.NDArray[np.uint8]]

#: The world of this process's last task, by what it is known by.
_LAST_WORLD: dict[tuple[str, str], SyntheticModel] = {}


@dataclass(frozen=True)
class Terms:
    """What tasks of a job have in common on a cluster.

    Attributes:
        job: what the runs have in common.
        token: a file in its directory, with this text, where the directory is shared; else None.
        text: of the token.
    """

    job: Job
    token: Path | None
    text: str


def read_files(folder: Path) -> Files:
    """The files of a folder and of those within it, apart from hidden ones."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = np.frombuffer(read_bytes(path), np.uint8)
    return found


def write_files(folder: Path, files: Files) -> None:
    """Write files that :func:`read_files` has read, each whole."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, partial(_write_bytes, data))


def _write_bytes(data: npt.NDArray[np.uint8], path: Path) -> None:
    path.write_bytes(data.data)


def build_world(source: dict[str, Any], threads: int) -> Files:
    """The files of a world that is built here."""
    torch.set_num_threads(threads)
    with TemporaryDirectory(prefix="synthkern-") as folder:
        built_world(Path(folder), source, "cpu")
        return read_files(saved_world(Path(folder), source))


def do_task(
    terms: Terms,
    runs: Sequence[PlannedRun],
    name: str,
    world: Files,
    checkpoints: Mapping[str, Files],
) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Do runs; yields lists of what a worker process would report.

    Where the directory is not shared, there are also ("checkpoint", key, files) for each that is
    written, and ("files", key, files) before ("done", ...). ("memory", bytes) is what the process
    has taken at most.

    Args:
        terms: of the job.
        runs: of one world.
        name: what the world is known by.
        world: its files.
        checkpoints: to go on from where the directory is not shared, by key.
    """
    task = _Task(terms, (name, world), checkpoints)
    thread = threading.Thread(target=task.work, args=(runs,), daemon=True)
    thread.start()
    try:
        going = True
        while going:
            # Ray cancels by an exception in this thread, for which it must wake up.
            is_alive, reports = thread.is_alive(), task.reports(_EVERY)
            if reports:
                yield reports
            going = is_alive and not (reports and reports[-1][0] in _LAST)
    finally:
        task.stop.set()
        thread.join()


class _Task:
    """A task that a thread works at, as this process's first has to hear of its end."""

    def __init__(
        self, terms: Terms, world: tuple[str, Files], checkpoints: Mapping[str, Files]
    ) -> None:
        self.stop = threading.Event()
        self._terms = terms
        self._world_name, self._world_files = world
        self._checkpoints = checkpoints
        self._reports: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()

    def reports(self, seconds: float) -> list[tuple[str, tuple[Any, ...]]]:
        """What was reported since, and within some seconds."""
        found = []
        until = time.monotonic() + seconds
        with suppress(Empty):
            while True:
                found.append(self._reports.get(timeout=max(0.0, until - time.monotonic())))
                if found[-1][0] in _LAST:
                    break
        return found

    def work(self, runs: Sequence[PlannedRun]) -> None:
        """Do the runs and report how it goes."""
        try:
            self._report("taken")
            _check_token(self._terms)
            _forget_peak()
            with ExitStack() as stack:
                self._do(runs, stack)
            self._report("memory", _peak())
            gc.collect()
            self._report("ended")
        except KeyboardInterrupt:
            # Nobody waits for more.
            return
        except (OSError, ValueError) as error:
            self._report("fatal", error)
        except Exception:
            self._report("fatal", RuntimeError(traceback.format_exc()))

    def _do(self, runs: Sequence[PlannedRun], stack: ExitStack) -> None:
        job = self._terms.job
        if self._terms.token is None:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="synthkern-")))
            job = replace(job, directory=place)
            for key, files in self._checkpoints.items():
                write_files(run_folder(place, key) / CHECKPOINT_FOLDER, files)
        (job.directory / RUNS_FOLDER).mkdir(exist_ok=True)

        def keep(key: str) -> None:
            self._report(
                "checkpoint", key, read_files(run_folder(job.directory, key) / CHECKPOINT_FOLDER)
            )

        def report(what: str, *values: Any) -> None:
            if what == "done" and self._terms.token is None:
                self._report("files", values[0], self._outcome(job.directory, values[0]))
            self._report(what, *values)

        Worker(
            job, report, build=self._loaded, keep=keep if self._terms.token is None else None
        ).do(runs)

    def _outcome(self, place: Path, key: str) -> Files:
        """What a run leaves in its folder, which names the job's directory and not this node's."""
        files = read_files(run_folder(place, key))
        if RUNNER_CONFIG_FILENAME not in files:  # nothing was trained
            return files
        config = files[RUNNER_CONFIG_FILENAME].tobytes().decode()
        here, there = (
            json.dumps(str(folder))[:-1] for folder in (place, self._terms.job.directory)
        )
        config = config.replace(here, there)
        return {
            **{n: d for n, d in files.items() if not n.startswith(f"{CHECKPOINT_FOLDER}/")},
            RUNNER_CONFIG_FILENAME: np.frombuffer(config.encode(), np.uint8),
        }

    def _loaded(self, source: dict[str, Any] | str, device: str) -> SyntheticModel:
        """The task's world; this process keeps it for its next task."""
        known = self._world_name, device
        if known not in _LAST_WORLD:
            _LAST_WORLD.clear()
            with TemporaryDirectory(prefix="synthkern-") as folder:
                write_files(Path(folder), self._world_files)
                _LAST_WORLD[known] = load_world(Path(folder), source, device)
        return _LAST_WORLD[known]

    def _report(self, what: str, *values: Any) -> None:
        self._reports.put((what, values))
        if self.stop.is_set():
            # Once: checkpoints are still to be written and reported.
            self.stop.clear()
            raise KeyboardInterrupt


@lru_cache
def _check_token(terms: Terms) -> None:
    """Once in a process: it may be of a node that came after the others were looked at."""
    gc.freeze()
    if terms.token is not None:
        there = terms.token.is_file() and terms.token.read_text(encoding="utf-8") == terms.text
        if not there:
            raise OSError(
                f"{terms.job.directory} must be a folder that all nodes share, as the first ones "
                "do, but a node that came later does not have it"
            )


def _forget_peak() -> None:
    """Let the system count this process's largest memory anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes that this process has taken at most since; 0 where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
