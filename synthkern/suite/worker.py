"""A process that does runs, one after the other or several on the same batches."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import synthkern
from synthkern.stream import STREAM_VERSION
from synthkern.suite.claims import claim, release
from synthkern.suite.database import LATENT_COLUMNS, Outcome, PlannedRun, RunDatabase
from synthkern.suite.disk import is_disk_error
from synthkern.suite.hardware import hardware
from synthkern.suite.own_saes import load_architectures
from synthkern.suite.worlds import built_world
from synthkern.synthetic_model import SyntheticModel
from synthkern.training.runner import CHECKPOINT_FOLDER, SyntheticSAERunner
from synthkern.training.runner_config import SyntheticSAERunnerConfig
from synthkern.training.together import train_together
from synthkern.training.training import Training, TrainingResult

_RUNS = "runs"

#: Seconds between two reports of a run's progress.
_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Attributes:
        directory: of the database and the runs' folders.
        units: runs that are done together, each group on the same batches.
        files: of Python, that define architectures.
        device: of worlds and SAEs.
        threads: of the CPU.
    """

    directory: Path
    units: list[list[PlannedRun]]
    files: list[Path]
    device: str
    threads: int


def run_folder(directory: Path, key: str) -> Path:
    """Where a run's SAE, figures and checkpoint are."""
    return directory / _RUNS / key


def main() -> None:
    """Do the job that comes through the pipe named on the command line."""
    connection = Connection(int(sys.argv[-1]))
    job: Job = connection.recv()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    try:
        torch.set_num_threads(job.threads)
        for file in job.files:
            load_architectures(file)
        worker = Worker(job, connection)
        for unit in job.units:
            worker.do(unit)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        expected = isinstance(error, OSError | ValueError)
        connection.send(("fatal", str(error) if expected else traceback.format_exc()))
        sys.exit(1)
    connection.send(("end",))


def _end_with_parent(connection: Connection) -> None:
    """End this process at once where the one that it works for is gone: it can be continued."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


class Worker:
    """Does runs and says through a pipe how it gets on.

    Args:
        job: what is to be done.
        connection: gets ("begin", key), ("resume", key, samples), ("progress", key, samples,
            text), ("evaluate", key), ("end_of", key) and ("world", name).
    """

    def __init__(self, job: Job, connection: Connection) -> None:
        self._job = job
        self._connection = connection
        self._database = RunDatabase(job.directory)
        (job.directory / _RUNS).mkdir(exist_ok=True)
        self._hardware = hardware(job.device)
        self._world: tuple[str, SyntheticModel] | None = None

    def do(self, runs: Sequence[PlannedRun]) -> None:
        """Do those of the runs that nobody does or has done.

        Raises:
            OSError: where the disk or the database can take no more.
        """
        with self._claimed(runs) as mine:
            begun: list[tuple[PlannedRun, SyntheticSAERunner, Training]] = []
            for run in mine:
                self._connection.send(("begin", run.key))
                self._database.start(run.key, synthkern.__version__, STREAM_VERSION, self._hardware)
                try:
                    runner = self._runner(run)
                    begun.append((run, runner, runner.begin(self._bar(run))))
                except Exception as error:
                    self._fail(run, error)
            outcomes = train_together([training for _, _, training in begun])
            for (run, runner, _), outcome in zip(begun, outcomes, strict=True):
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    finished = self._complete(run, runner, outcome)
                except Exception as error:
                    self._fail(run, error)
                else:
                    self._database.finish(run.key, finished)
                    self._end(run)
        # What a run that failed for want of memory held must be gone before the next.
        gc.collect()

    @contextmanager
    def _claimed(self, runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
        """Those of the runs that are to be done and that no other process is at."""
        locks: list[int] = []
        mine = []
        try:
            for run in runs:
                # Beside the folder, which is replaced as a whole when the SAE is saved.
                lock = claim(run_folder(self._job.directory, run.key).with_suffix(".lock"))
                if lock is None:
                    continue
                locks.append(lock)
                if self._database.run(run.key).state in ("pending", "running"):
                    mine.append(run)
            yield mine
        finally:
            for lock in locks:
                release(lock)

    def _runner(self, run: PlannedRun) -> SyntheticSAERunner:
        device = self._job.device
        data = {
            **run.config,
            "sae": {**run.config["sae"], "device": device},
            "device": device,
            "output_path": str(run_folder(self._job.directory, run.key)),
            "resume": True,
        }
        world = self._world_of(run)
        torch.manual_seed(run.seed)
        return SyntheticSAERunner(SyntheticSAERunnerConfig.from_dict(data), world)

    def _world_of(self, run: PlannedRun) -> SyntheticModel:
        """The run's world; the last one is kept for the next run."""
        source = run.config["synthetic_model"]
        name = json.dumps(source, sort_keys=True)
        if self._world is None or self._world[0] != name:
            self._world = None
            self._connection.send(("world", run.world))
            self._world = name, built_world(self._job.directory, source, self._job.device)
        return self._world[1]

    def _complete(
        self, run: PlannedRun, runner: SyntheticSAERunner, trained: TrainingResult
    ) -> Outcome:
        began = time.monotonic()
        self._connection.send(("evaluate", run.key))
        result = runner.complete(trained).final_eval
        if result is None or result.per_latent is None:
            raise ValueError("a suite's runs must be evaluated: eval_samples is 0")
        figures = result.to_dict()
        errors = figures.pop("standard_errors")
        samples = runner.cfg.training.training_steps * runner.cfg.batch_size
        return Outcome(
            metrics={k: v for k, v in result.to_log_dict().items() if k.split("/")[0] in figures},
            standard_errors=errors,
            history=trained.history,
            latents={name: getattr(result.per_latent, name) for name in LATENT_COLUMNS},
            seconds=trained.seconds + time.monotonic() - began,
            training_seconds=trained.seconds,
            samples_per_second=samples / max(trained.seconds, 1e-9),
        )

    def _fail(self, run: PlannedRun, error: Exception) -> None:
        if is_disk_error(error):
            raise error
        self._database.fail(run.key, "".join(traceback.format_exception(error)))
        self._connection.send(("end_of", run.key))

    def _end(self, run: PlannedRun) -> None:
        shutil.rmtree(
            run_folder(self._job.directory, run.key) / CHECKPOINT_FOLDER, ignore_errors=True
        )
        self._connection.send(("end_of", run.key))

    def _bar(self, run: PlannedRun) -> dict[str, Any]:
        def make_bar(initial: int, **_: Any) -> ReportingBar:
            return ReportingBar(self._connection, run.key, initial)

        return {"make_bar": make_bar}


class ReportingBar:
    """A training's bar, drawn by another process."""

    def __init__(self, connection: Connection, key: str, initial: int) -> None:
        self.n = initial
        self._connection = connection
        self._key = key
        self._text = ""
        self._reported_at = time.monotonic()
        connection.send(("resume", key, initial))

    def __enter__(self) -> ReportingBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._report()

    def update(self, samples: int) -> None:
        """Count samples."""
        self.n += samples
        if time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self._report()

    def set_postfix(self, **figures: str) -> None:
        """Say more."""
        self._text = ", ".join(f"{name}={value}" for name, value in figures.items())

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        self._connection.send(("progress", self._key, self.n, self._text))
