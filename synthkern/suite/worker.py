"""Does the runs of a task, one alone or several on the same batches."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from synthkern.model.synthetic_model import SyntheticModel
from synthkern.suite.database import LATENT_COLUMNS, Outcome, PlannedRun
from synthkern.suite.disk import is_disk_error
from synthkern.suite.executor import Job
from synthkern.suite.hardware import hardware
from synthkern.suite.logging import run_logging
from synthkern.suite.memory import is_memory_error
from synthkern.suite.plugins import load_architectures
from synthkern.suite.worlds import built_world, config_of
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.runner import SyntheticSAERunner, noted_world
from synthkern.training.runner_config import SyntheticSAERunnerConfig
from synthkern.training.together import train_together

#: Of the runs, in the directory.
RUNS_FOLDER = "runs"

#: Seconds between two reports of a run's progress.
_REPORT_SECONDS = 0.2


def run_folder(directory: Path, key: str) -> Path:
    """Where a run's SAE, figures and checkpoint are."""
    return directory / RUNS_FOLDER / key


class RunStopped(Exception):
    """Nobody wants the run's outcome any more."""


class Worker:
    """Does runs and reports how it gets on.

    Reports are ("world", name), ("begin", key, hardware), ("resume", key, samples), ("progress",
    key, samples, text), ("evaluate", key), where they are wanted ("row", key, row of the curves),
    and in the end ("done", key, outcome), ("failed", key, traceback) or ("stopped", key).

    Args:
        job: what the runs have in common.
        report: called with what there is to say.
        build: gives the world of a source on a device; by default that of the job's directory.
        keep: called with a run's key when its checkpoint has been written.
        stopped: keys of runs that are to end soon, of which there may be more at any time.
    """

    def __init__(
        self,
        job: Job,
        report: Callable[..., None],
        build: Callable[[Any, str], SyntheticModel] | None = None,
        keep: Callable[[str], None] | None = None,
        stopped: Collection[str] = (),
    ) -> None:
        torch.set_num_threads(job.threads)
        for file in job.files:
            load_architectures(file)
        self._job = job
        self._report = report
        self._build = build or partial(built_world, job.directory, cache=job.cache)
        self._keep = keep
        self._stopped = stopped
        self._hardware = hardware(job.device)
        self._world: tuple[str, SyntheticModel] | None = None
        self._config: str | None = None

    def do(self, runs: Sequence[PlannedRun]) -> None:
        """Do runs; those of several for which the memory is not enough are not over then.

        Raises:
            OSError: where the disk can take no more.
        """
        with ExitStack() as open_runners:
            begun: list[tuple[PlannedRun, SyntheticSAERunner[Any], TrainingRun]] = []
            for run in runs:
                self._report("begin", run.key, self._hardware)
                try:
                    runner = self._runner(run)
                    open_runners.callback(runner.close)
                    begun.append((run, runner, runner.begin(self._bar(run))))
                except Exception as error:
                    self._fail(run, error, alone=len(runs) == 1)
            outcomes = self._train([training for _, _, training in begun])
            for (run, runner, _), outcome in zip(begun, outcomes, strict=True):
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    finished = self._complete(run, runner, outcome)
                except RunStopped:
                    self._report("stopped", run.key)
                except Exception as error:
                    self._fail(run, error, alone=len(runs) == 1)
                else:
                    self._report("done", run.key, finished)

    def _runner(self, run: PlannedRun) -> SyntheticSAERunner[Any]:
        device = self._job.device
        data = {
            **run.config,
            "sae": {**run.config["sae"], "device": device},
            "device": device,
            "output_path": str(run_folder(self._job.directory, run.key)),
            "resume": True,
            "logger": run_logging(run),
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
            self._report("world", run.world)
            self._world = name, self._build(source, self._job.device)
            self._config = config_of(source, self._world[1])
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
        self._report("evaluate", run.key)
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
            world_fingerprint=noted_world(runner.sae),
            config_fingerprint=self._config,
        )

    def _fail(self, run: PlannedRun, error: Exception, *, alone: bool) -> None:
        if is_disk_error(error):
            raise error
        if is_memory_error(error) and not alone:
            # There may be enough for one: the run is not over and is sent again, alone.
            return
        self._report("failed", run.key, "".join(traceback.format_exception(error)))

    def _bar(self, run: PlannedRun) -> dict[str, Any]:
        def make_bar(initial: int, **_: Any) -> ReportingBar:
            return ReportingBar(self._report, run.key, initial, self._stopped)

        keep = self._keep
        saved_fn = None if keep is None else partial(keep, run.key)
        row_fn = partial(self._report, "row", run.key) if self._job.rows else None
        return {"make_bar": make_bar, "saved_fn": saved_fn, "row_fn": row_fn}


class ReportingBar:
    """A training's bar, drawn by another process."""

    def __init__(
        self, report: Callable[..., None], key: str, initial: int, stopped: Collection[str]
    ) -> None:
        self.n = initial
        self._report = report
        self._key = key
        self._stopped = stopped
        self._text = ""
        self._reported_at = time.monotonic()
        report("resume", key, initial)

    def __enter__(self) -> ReportingBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()

    def update(self, samples: int) -> None:
        """Count samples; raises RunStopped where it need not go on."""
        self.n += samples
        if self._key in self._stopped:
            raise RunStopped
        if time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self._tell()

    def set_postfix(self, **figures: str) -> None:
        """Say more."""
        self._text = ", ".join(f"{name}={value}" for name, value in figures.items())

    def _tell(self) -> None:
        self._reported_at = time.monotonic()
        self._report("progress", self._key, self.n, self._text)
