"""A process that does the runs it is sent, one by one or several on the same batches."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from synthkern._version import __version__
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.model.world_cache import WorldCache
from synthkern.stream import STREAM_VERSION
from synthkern.suite.claims import claim, release
from synthkern.suite.database import LATENT_COLUMNS, Outcome, PlannedRun, RunDatabase
from synthkern.suite.disk import is_disk_error
from synthkern.suite.hardware import hardware
from synthkern.suite.memory import is_memory_error
from synthkern.suite.plugins import load_architectures
from synthkern.suite.worlds import built_world
from synthkern.training.interrupt import termination_interrupts
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.runner import CHECKPOINT_FOLDER, SyntheticSAERunner
from synthkern.training.runner_config import SyntheticSAERunnerConfig
from synthkern.training.together import train_together

#: Of the runs, in the directory.
RUNS_FOLDER = "runs"

#: Seconds between two reports of a run's progress.
_REPORT_SECONDS = 0.2

#: What a worker is sent for Ctrl-C.
STOP = "stop"


@dataclass(frozen=True)
class Job:
    """What all runs of a worker have in common.

    Attributes:
        directory: of the database and the runs' folders.
        files: of Python, that define architectures.
        device: of worlds and SAEs.
        threads: of the CPU.
        cache: where worlds may be had from, or None.
    """

    directory: Path
    files: list[Path]
    device: str
    threads: int
    cache: WorldCache | None = None


def run_folder(directory: Path, key: str) -> Path:
    """Where a run's SAE, figures and checkpoint are."""
    return directory / RUNS_FOLDER / key


def main() -> None:
    """Do what comes through the pipe named on the command line: a job, then lists of runs.

    Each list is asked for by "ready"; None for a list is the end.
    """
    connection = Connection(int(sys.argv[-1]))
    reports = Reports(connection)
    # Ignored in what a batch script starts with &; and the other process asks by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # Once: a scheduler's signal may come both here and by the parent.
        with termination_interrupts(grace=math.inf):
            _work(connection, reports)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as error:
        reports.send("fatal", error)
        sys.exit(1)
    except Exception:
        reports.send("fatal", RuntimeError(traceback.format_exc()))
        sys.exit(1)


def _work(connection: Connection, reports: Reports) -> None:
    """Take orders until there are no more."""
    orders: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, orders), daemon=True).start()
    worker = Worker(orders.get(), reports)
    # The modules' objects are not looked through again for each run, which takes 0.16 s.
    gc.freeze()
    while True:
        reports.send("ready")
        runs = orders.get()
        if runs is None:
            return
        worker.do(runs)
        # What a run that failed for want of memory held must be gone before the next.
        gc.collect()


def _listen(connection: Connection, orders: SimpleQueue[Any]) -> None:
    """Hand orders on; a thread, so that Ctrl-C and the end of the other process come at once."""
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            # Nobody is left who would go on with this; the checkpoints are for that.
            os._exit(1)
        if order == STOP:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            orders.put(order)


class Reports:
    """What a worker says of its runs to the process that it works for.

    ("ready",), ("world", name), ("begin", key), ("resume", key, samples), ("progress", key,
    samples, text), ("evaluate", key), ("end_of", key) for one that is done or has failed,
    ("elsewhere", key) for one that another process is at, and ("fatal", error).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, what: str, *values: Any) -> None:
        """Say something; where nobody listens any more, this process ends."""
        try:
            self._connection.send((what, *values))
        except OSError:
            os._exit(1)


class Worker:
    """Does runs and reports how it gets on."""

    def __init__(self, job: Job, reports: Reports) -> None:
        torch.set_num_threads(job.threads)
        for file in job.files:
            load_architectures(file)
        self._job = job
        self._reports = reports
        self._database = RunDatabase(job.directory)
        (job.directory / RUNS_FOLDER).mkdir(exist_ok=True)
        self._hardware = hardware(job.device)
        self._world: tuple[str, SyntheticModel] | None = None

    def do(self, runs: Sequence[PlannedRun]) -> None:
        """Do those of the runs that nobody does or has done.

        Those of several for which the memory is not enough are not over then.

        Raises:
            OSError: where the disk or the database can take no more.
        """
        with self._claimed(runs) as mine, ExitStack() as open_runners:
            begun: list[tuple[PlannedRun, SyntheticSAERunner[Any], TrainingRun]] = []
            for run in mine:
                self._reports.send("begin", run.key)
                self._database.start(run.key, __version__, STREAM_VERSION, self._hardware)
                try:
                    runner = self._runner(run)
                    open_runners.callback(runner.close)
                    begun.append((run, runner, runner.begin(self._bar(run))))
                except Exception as error:
                    self._fail(run, error, alone=len(mine) == 1)
            outcomes = self._train([training for _, _, training in begun])
            for (run, runner, _), outcome in zip(begun, outcomes, strict=True):
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    finished = self._complete(run, runner, outcome)
                except Exception as error:
                    self._fail(run, error, alone=len(mine) == 1)
                else:
                    self._database.finish(run.key, finished)
                    self._end(run)

    @contextmanager
    def _claimed(self, runs: Sequence[PlannedRun]) -> Iterator[list[PlannedRun]]:
        """Those of the runs that are to be done and that no other process is at."""
        locks: list[int] = []
        mine = []
        try:
            for run in runs:
                # Beside the folder, which a user may remove to have the run done again.
                lock = claim(run_folder(self._job.directory, run.key).with_suffix(".lock"))
                if lock is None:
                    self._reports.send("elsewhere", run.key)
                    continue
                locks.append(lock)
                if self._database.state(run.key) in ("pending", "running"):
                    mine.append(run)
                else:
                    self._reports.send("end_of", run.key)
            yield mine
        finally:
            for lock in locks:
                release(lock)

    def _runner(self, run: PlannedRun) -> SyntheticSAERunner[Any]:
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
            self._reports.send("world", run.world)
            job = self._job
            self._world = name, built_world(job.directory, source, job.device, job.cache)
        return self._world[1]

    def _train(self, trainings: Sequence[TrainingRun]) -> list[TrainingResult | Exception]:
        try:
            return train_together(trainings)
        except Exception as error:
            # Of the batches, which they have in common.
            return [error] * len(trainings)

    def _complete(
        self, run: PlannedRun, runner: SyntheticSAERunner[Any], trained: TrainingResult
    ) -> Outcome:
        began = time.monotonic()
        self._reports.send("evaluate", run.key)
        result = runner.complete(trained).final_eval
        assert result is not None
        assert result.per_latent is not None
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

    def _fail(self, run: PlannedRun, error: Exception, *, alone: bool) -> None:
        if is_disk_error(error):
            raise error
        if is_memory_error(error) and not alone:
            # There may be enough for one: the run is not over and is sent again, alone.
            return
        self._database.fail(run.key, "".join(traceback.format_exception(error)))
        self._reports.send("end_of", run.key)

    def _end(self, run: PlannedRun) -> None:
        shutil.rmtree(
            run_folder(self._job.directory, run.key) / CHECKPOINT_FOLDER, ignore_errors=True
        )
        self._reports.send("end_of", run.key)

    def _bar(self, run: PlannedRun) -> dict[str, Any]:
        def make_bar(initial: int, **_: Any) -> ReportingBar:
            return ReportingBar(self._reports, run.key, initial)

        return {"make_bar": make_bar}


class ReportingBar:
    """A training's bar, drawn by another process."""

    def __init__(self, reports: Reports, key: str, initial: int) -> None:
        self.n = initial
        self._reports = reports
        self._key = key
        self._text = ""
        self._reported_at = time.monotonic()
        reports.send("resume", key, initial)

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
        self._reports.send("progress", self._key, self.n, self._text)
