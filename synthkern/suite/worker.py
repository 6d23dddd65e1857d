"""Does the runs of a task, one alone or several on the same batches."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from synthkern.evaluation import SyntheticDataEvalResult
from synthkern.evaluation.files import write_evaluation
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae.files import SAE_CFG_FILENAME
from synthkern.storage.saved_folder import has_file
from synthkern.suite.baselines import BASELINE, TRAINED_AS, as_trained
from synthkern.suite.database import LATENT_COLUMNS, Outcome, PlannedRun
from synthkern.suite.disk import is_disk_error
from synthkern.suite.evaluated import (
    evaluate_subject,
    freeze_decoder,
    says_something,
    subject_of,
)
from synthkern.suite.executor import Job
from synthkern.suite.hardware import hardware
from synthkern.suite.logging import run_logging
from synthkern.suite.memory import is_memory_error
from synthkern.suite.plugins import load_architectures
from synthkern.suite.worlds import built_world, config_of
from synthkern.training.checkpoint import remove_checkpoint
from synthkern.training.history import TrainingHistory
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.runner import CHECKPOINT_FOLDER, SyntheticSAERunner
from synthkern.training.runner_config import SyntheticSAERunnerConfig
from synthkern.training.together import train_together

#: Of the runs, in the directory.
RUNS_FOLDER = "runs"

#: In the folder of a run whose decoder is permuted, the SAE that had to be trained for that.
_TRAINED_FOLDER = "trained"

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
        self._fingerprints: dict[str, Any] = {}

    def do(self, runs: Sequence[PlannedRun]) -> None:
        """Do runs; those of several for which the memory is not enough are not over then.

        Raises:
            OSError: where the disk can take no more.
        """
        self._train_all([run for run in runs if run.is_trained], alone=len(runs) == 1)
        for run in runs:
            if not run.is_trained:
                self._report("begin", run.key, self._hardware)
                try:
                    finished = self._evaluated(run)
                except Exception as error:
                    self._fail(run, error, alone=len(runs) == 1)
                else:
                    self._report("done", run.key, finished)

    def _train_all(self, runs: Sequence[PlannedRun], *, alone: bool) -> None:
        with ExitStack() as open_runners:
            begun: list[tuple[PlannedRun, SyntheticSAERunner[Any], TrainingRun]] = []
            for run in runs:
                self._report("begin", run.key, self._hardware)
                try:
                    runner = self._runner(run)
                    open_runners.callback(runner.close)
                    begun.append((run, runner, runner.begin(self._bar(run))))
                except Exception as error:
                    self._fail(run, error, alone=alone)
            outcomes = self._train([training for _, _, training in begun])
            for (run, runner, _), outcome in zip(begun, outcomes, strict=True):
                try:
                    if isinstance(outcome, Exception):
                        raise outcome
                    finished = self._complete(run, runner, outcome)
                except RunStopped:
                    self._report("stopped", run.key)
                except Exception as error:
                    self._fail(run, error, alone=alone)
                else:
                    self._report("done", run.key, finished)

    def _runner(self, run: PlannedRun, folder: Path | None = None) -> SyntheticSAERunner[Any]:
        device = self._job.device
        data = {
            **as_trained(run.config),
            "sae": {**run.config["sae"], "device": device},
            "device": device,
            "output_path": str(folder or run_folder(self._job.directory, run.key)),
            "resume": True,
            "logger": run_logging(run),
        }
        world = self._world_of(run)
        torch.manual_seed(run.seed)
        runner = SyntheticSAERunner(SyntheticSAERunnerConfig.from_dict(data), world)
        if run.config.get(BASELINE) == "frozen_decoder":
            freeze_decoder(runner.sae)
        return runner

    def _evaluated(self, run: PlannedRun) -> Outcome:
        """The outcome of a run that trains nothing, or only where no other has."""
        began = time.monotonic()
        world = self._world_of(run)
        trained = self._trained(run) if TRAINED_AS in run.config else None
        self._report("evaluate", run.key)
        subject = subject_of(run, world, self._job.device, trained)
        result = evaluate_subject(subject, run, world)
        write_evaluation(run_folder(self._job.directory, run.key), result)
        outcome = _outcome(run, result, TrainingHistory(), time.monotonic() - began)
        return replace(outcome, **self._fingerprints)

    def _trained(self, run: PlannedRun) -> Path:
        """The folder of the SAE that a run changes: another run's, or one that is trained here."""
        folder = run_folder(self._job.directory, run.config[TRAINED_AS])
        if has_file(folder, SAE_CFG_FILENAME):
            return folder
        own = run_folder(self._job.directory, run.key) / _TRAINED_FOLDER
        runner = self._runner(run, own)
        try:
            (outcome,) = self._train([runner.begin(self._bar(run))])
            if isinstance(outcome, Exception):
                raise outcome
            runner.complete(outcome)
        finally:
            runner.close()
        remove_checkpoint(own / CHECKPOINT_FOLDER)
        return own

    def _world_of(self, run: PlannedRun) -> SyntheticModel:
        """The run's world; the last one is kept for the next run."""
        source = run.config["synthetic_model"]
        name = json.dumps(source, sort_keys=True)
        if self._world is None or self._world[0] != name:
            self._world = None
            self._report("world", run.world)
            self._world = name, self._build(source, self._job.device)
            self._fingerprints = {
                "world_fingerprint": self._world[1].fingerprint,
                "config_fingerprint": config_of(source, self._world[1]),
            }
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
        samples = runner.cfg.training.training_steps * runner.cfg.batch_size
        seconds = trained.seconds + time.monotonic() - began
        return replace(
            _outcome(run, result, trained.history, seconds),
            training_seconds=trained.seconds,
            samples_per_second=samples / max(trained.seconds, 1e-9),
            **self._fingerprints,
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


def _outcome(
    run: PlannedRun, result: SyntheticDataEvalResult, history: TrainingHistory, seconds: float
) -> Outcome:
    """What an evaluation leaves in the database, without a word on a training's speed."""
    assert result.per_latent is not None
    figures = result.to_dict()
    errors = figures.pop("standard_errors")
    metrics = {k: v for k, v in result.to_log_dict().items() if k.split("/")[0] in figures}
    return Outcome(
        metrics={name: value for name, value in metrics.items() if says_something(run, name)},
        standard_errors={k: v for k, v in errors.items() if says_something(run, k)},
        history=history,
        latents={name: getattr(result.per_latent, name) for name in LATENT_COLUMNS},
        seconds=seconds,
        training_seconds=0.0,
        samples_per_second=None,
    )


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
