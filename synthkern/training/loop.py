"""The loop around the steps: bar, curves, evaluations, snapshots, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from synthkern.sae.module_modes import keeping_modes
from synthkern.training.checkpoint import Checkpoint, write_checkpoint
from synthkern.training.history import TrainingHistory
from synthkern.training.interrupt import deferred_interrupt
from synthkern.training.loggers import Logger
from synthkern.training.scaler import ActivationScaler
from synthkern.training.trainer import NonFiniteLossError, SAETrainer

#: Seconds between two looks at loss and L0 for the bar; on a GPU each waits for the steps so far.
_BAR_SECONDS = 0.5


class Loop:
    """One training from where it is to its end.

    Args:
        trainer: at the beginning, or where a checkpoint was.
        recipe: what decides the outcome; goes into checkpoints.
        directory: of the checkpoint, or None.
        evaluator: gives figures of the SAE.
        snapshot_fn: called with the trainer.
        logger: takes rows.
        saved: the checkpoint that the trainer comes from.
        title: what the bar is called.
        make_bar: gives the bar, as tqdm does.

    Attributes:
        seconds: spent in steps, those before a checkpoint too; who samples the batches adds what
            that took.
    """

    def __init__(
        self,
        trainer: SAETrainer,
        recipe: dict[str, Any],
        directory: Path | None,
        *,
        evaluator: Callable[[Any, ActivationScaler], Mapping[str, float]] | None,
        snapshot_fn: Callable[[SAETrainer], None] | None,
        logger: Logger | None,
        saved: Checkpoint | None,
        title: str = "training",
        make_bar: Callable[..., Any] = tqdm,
    ) -> None:
        self._trainer = trainer
        self._recipe = recipe
        self._directory = directory
        self._evaluator = evaluator
        self._snapshot_fn = snapshot_fn
        self._logger = logger
        self._title = title
        self._make_bar = make_bar
        progress = {} if saved is None else saved.progress
        self._history = TrainingHistory() if saved is None else saved.history
        self._evaluated_step: int = progress.get("evaluated_step", 0)
        self._snapshots: int = progress.get("snapshots", 0)
        self._saved_step: int | None = None if saved is None else trainer.steps_done
        self._saved_at = time.monotonic()
        self.seconds: float = progress.get("seconds", 0.0)
        self._row_samples, self._row_seconds = trainer.n_training_samples, self.seconds
        self._bar: Any = None
        self._open = ExitStack()

    def begin(self) -> None:
        """Show the bar, and do what is due before the first step."""
        trainer = self._trainer
        self._open.enter_context(keeping_modes(trainer.sae))
        bar = self._make_bar(
            total=trainer.cfg.training_samples,
            initial=min(trainer.n_training_samples, trainer.cfg.training_samples),
            desc=self._title,
            unit=" samples",
            unit_scale=True,
        )
        self._bar = self._open.enter_context(bar)
        with self._naming_checkpoint():
            self._duties()

    @property
    def is_done(self) -> bool:
        """Whether all samples were trained on."""
        return self._trainer.is_done

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch, and do what is due after it."""
        with self._naming_checkpoint():
            self._step(batch)
            self._duties()

    def finish(self) -> TrainingHistory:
        """Save and fold in what was learnt besides the weights; gives the training curves."""
        with self._naming_checkpoint():
            self._trainer.check_losses()
            self._trainer.check_weights()
        self.save()
        self._finish()
        return self._history

    def close(self) -> None:
        """Put away the bar, and leave the SAE in the mode, training or not, that it was in."""
        self._open.close()

    @contextmanager
    def _naming_checkpoint(self) -> Iterator[None]:
        try:
            yield
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"{error}; {self._last_good()}") from error

    def _step(self, batch: torch.Tensor) -> None:
        trainer, cfg, bar = self._trainer, self._trainer.cfg, self._bar
        began = time.monotonic()
        before = trainer.n_training_samples
        is_last = before + len(batch) >= cfg.training_samples
        logs = (trainer.steps_done + 1) % cfg.log_every == 0 or is_last
        with deferred_interrupt():
            output = trainer.step(batch, is_logging_step=logs)
            shows = time.monotonic() - getattr(bar, "shown_at", 0.0) > _BAR_SECONDS
            if logs or shows:
                figures = trainer.figures(output)
            if shows:
                bar.set_postfix(loss=f"{figures['loss']:.4g}", L0=f"{figures['l0']:.1f}")
                bar.shown_at = time.monotonic()
            self.seconds += time.monotonic() - began
            if logs:
                trainer.check_losses()
                self._add_row(figures)
            if trainer.steps_done % cfg.feature_sampling_window == 0:
                self._log(trainer.window_figures())
        bar.update(min(len(batch), cfg.training_samples - before))

    def _add_row(self, figures: dict[str, float]) -> None:
        samples, seconds = self._trainer.n_training_samples, self.seconds
        speed = (samples - self._row_samples) / max(seconds - self._row_seconds, 1e-9)
        self._row_samples, self._row_seconds = samples, seconds
        self._log({**figures, "samples_per_second": speed})

    def _log(self, figures: Mapping[str, float]) -> None:
        trainer = self._trainer
        row = self._history.add(trainer.steps_done, trainer.n_training_samples, figures)
        if self._logger is not None:
            self._logger.log(row, trainer.steps_done)

    def _duties(self) -> None:
        """What is due after so many steps and has not been done; a resumed run does it then."""
        self._evaluate()
        self._take_snapshots()
        since = time.monotonic() - self._saved_at
        if since >= self._trainer.cfg.checkpoint_seconds:
            self.save()

    def _evaluate(self) -> None:
        every, step = self._trainer.cfg.eval_every, self._trainer.steps_done
        due = every and step % every == 0 and step > self._evaluated_step
        if not due or self._evaluator is None:
            return
        figures = self._evaluator(self._trainer.sae, self._trainer.activation_scaler)
        with deferred_interrupt():
            self._log({f"eval/{name}": value for name, value in figures.items()})
            self._evaluated_step = step

    def _take_snapshots(self) -> None:
        """Snapshot k of n when more than k (n + 1)ths of the samples are done."""
        cfg, done = self._trainer.cfg, self._trainer.n_training_samples
        stretch = math.ceil(cfg.training_samples / (cfg.n_snapshots + 1))
        while self._snapshots < cfg.n_snapshots and done > stretch * (self._snapshots + 1):
            assert self._snapshot_fn is not None
            with self._trainer.before_counting():
                self._snapshot_fn(self._trainer)
            self._snapshots += 1

    def save(self) -> None:
        """Write a checkpoint of a state that is good, where there is a directory for it."""
        trainer = self._trainer
        if self._directory is not None and self._saved_step != trainer.steps_done:
            trainer.check_losses()
            trainer.check_weights()
            progress = {
                "evaluated_step": self._evaluated_step,
                "snapshots": self._snapshots,
                "seconds": self.seconds,
            }
            write_checkpoint(
                self._directory,
                Checkpoint(
                    self._recipe, trainer.values(), trainer.tensors(), self._history, progress
                ),
            )
            self._saved_step = trainer.steps_done
        self._saved_at = time.monotonic()

    def _last_good(self) -> str:
        if self._saved_step is None:
            return "there is no checkpoint"
        return f"the last good checkpoint is {self._directory}, after {self._saved_step} steps"

    def _finish(self) -> None:
        trainer = self._trainer
        sae, factor = trainer.sae, trainer.activation_scaler.scaling_factor
        if factor is not None:
            sae.fold_activation_norm_scaling_factor(factor)
            trainer.activation_scaler.scaling_factor = None
        metadata = getattr(sae.cfg, "metadata", None)
        if metadata is not None and trainer.firing.samples:
            metadata["l0"] = float(trainer.feature_sparsity.sum())
            metadata["num_dead_features"] = int(trainer.dead_neurons.sum())
