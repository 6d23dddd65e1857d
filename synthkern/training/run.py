"""One training from where it is to its end: its steps, and what is due between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from synthkern.sae.module_modes import keeping_modes
from synthkern.storage.paths import AnyPath, as_optional_path
from synthkern.stream import fresh_seed
from synthkern.training.batch_source import BatchSource, Evaluator, Source
from synthkern.training.checkpoint import (
    Checkpoint,
    check_checkpoint_folder,
    continuing,
    read_checkpoint,
    write_checkpoint,
)
from synthkern.training.config import TrainingConfig
from synthkern.training.fingerprint import check_same_training, training_fingerprint
from synthkern.training.firing import log_sparsity
from synthkern.training.history import TrainingHistory
from synthkern.training.interrupt import deferred_interrupt
from synthkern.training.loggers import Logger
from synthkern.training.random_states import random_states
from synthkern.training.resumable import Place, Resumable
from synthkern.training.trainer import NonFiniteLossError, SAETrainer

#: Seconds between two looks at loss and L0 for the bar; on a GPU each waits for the steps so far.
_BAR_SECONDS = 0.5


@dataclass
class TrainingResult:
    """What a training gives.

    Attributes:
        sae: the SAE that was trained.
        history: the training curves.
        feature_sparsity: share of the last window's samples in which each latent fired, float32
            [M] on the CPU.
        seconds: that sampling and steps have taken, those before a checkpoint too.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(training_samples=64, batch_size=16, seed=0)
        >>> result = synthetic.train_sae(sae, model, cfg)
        >>> result.sae is sae, result.feature_sparsity.shape
        (True, torch.Size([8]))
    """

    sae: Any
    history: TrainingHistory
    feature_sparsity: torch.Tensor
    seconds: float

    @property
    def log_feature_sparsity(self) -> torch.Tensor:
        """Logarithm to base 10 of the share, 1e-10 added, [M]."""
        return log_sparsity(self.feature_sparsity)


class TrainingRun:
    """One training: a step for each batch, and what is due after it.

    :meth:`begin`, then :meth:`step` for each of :meth:`batches` until it :attr:`is_done`, then
    :meth:`finish`; :meth:`close` in any case. :func:`train_together` is the loop.

    Args:
        sae: as all that are not named here, see :func:`train_sae`.
        title: what the bar is called.
        make_bar: gives the bar, as tqdm does.
        saved_fn: called when a checkpoint has been written.
        row_fn: called with each row of the curves, those before a checkpoint too; it may raise.

    Attributes:
        source: of the batches.
        is_resumed: whether it goes on from a checkpoint, with steps that are still to be done.
        random_states: of torch, where it begins or was cut off.
        seconds: spent in steps, those before a checkpoint too; who samples the batches adds what
            that took.
    """

    def __init__(
        self,
        sae: Any,
        source: Source,
        cfg: TrainingConfig | None = None,
        *,
        checkpoint_dir: AnyPath | None = None,
        evaluator: Evaluator | None = None,
        snapshot_fn: Callable[[SAETrainer], None] | None = None,
        logger: Logger | None = None,
        title: str = "training",
        make_bar: Callable[..., Any] = tqdm,
        saved_fn: Callable[[], None] | None = None,
        row_fn: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        cfg = TrainingConfig() if cfg is None else cfg
        if not isinstance(cfg, TrainingConfig):
            raise TypeError(f"cfg must be a TrainingConfig, got {cfg!r}")
        if cfg.n_snapshots and snapshot_fn is None:
            raise ValueError(f"snapshot_fn must be given with n_snapshots = {cfg.n_snapshots}")
        directory = as_optional_path("checkpoint_dir", checkpoint_dir)
        saved = None if directory is None else read_checkpoint(directory)
        cfg = _with_seed(cfg, saved)
        trainer = SAETrainer(sae, cfg)
        self.source = BatchSource(source, cfg, sae.cfg, trainer.dtype, trainer.device)
        trainer.data_provider = self.source.data_provider
        place = None
        if directory is not None and self.source.model is None and isinstance(source, Resumable):
            place = Place(source)
        if self.source.stream is None and place is None and directory is not None:
            raise ValueError(
                "source must be a SyntheticModel, a SyntheticStream or an iterable with state_dict "
                f"and load_state_dict with a checkpoint_dir, got {type(source).__name__}"
            )
        evaluator = evaluator or self.source.evaluator(cfg)
        if cfg.eval_every and evaluator is None and self.source.model is None:
            raise ValueError(
                f"evaluator must be given with eval_every = {cfg.eval_every}, as source is no model"
            )
        self._fingerprint = training_fingerprint(sae, cfg, self.source)
        if saved is not None:
            assert directory is not None
            check_same_training(directory, saved.fingerprint, self._fingerprint)
            with continuing(directory):
                trainer.load_state_dict(saved.trainer)
                if place is not None:
                    place.load(saved.progress.get("source"))
        if directory is not None:
            check_checkpoint_folder(directory)
        self._trainer = trainer
        self._directory, self._place = directory, place
        self._evaluator, self._snapshot_fn, self._logger = evaluator, snapshot_fn, logger
        self._title, self._make_bar, self._saved_fn = title, make_bar, saved_fn
        self._row_fn = row_fn
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
        self.is_resumed = saved is not None and not self.is_done
        self.random_states = random_states(self.device)
        if self.is_resumed:
            self.random_states |= trainer.saved_random_states

    @property
    def device(self) -> torch.device:
        """Of the SAE."""
        return self._trainer.device

    @property
    def steps(self) -> int:
        """Steps done."""
        return self._trainer.steps_done

    @property
    def is_done(self) -> bool:
        """Whether all samples were trained on."""
        return self._trainer.is_done

    @property
    def may_draw(self) -> bool:
        """Whether steps may draw from torch's global generator: this package's SAEs do not."""
        return type(self._trainer.sae).__module__.split(".")[0] != __name__.split(".")[0]

    def estimate_scale(self) -> None:
        """Find the factor that inputs are scaled by, where the SAE wants one and has none yet."""
        wants = getattr(self._trainer.sae.cfg, "normalize_activations", "none")
        scaler = self._trainer.activation_scaler
        if wants == "expected_average_only_in" and scaler.scaling_factor is None:
            # Samples of a stream have places: these are looked at here and trained on after.
            scaler.estimate(self.source.batches(0), self._trainer.cfg.n_batches_for_norm_estimate)

    def batches(self) -> Iterator[torch.Tensor]:
        """The batches that are still to be trained on."""
        found = self.source.batches(self.steps)
        return found if self._place is None else self._place.following(found)

    def ended_early(self) -> RuntimeError:
        """What is wrong where there are no more batches."""
        done, cfg = self._trainer.n_training_samples, self._trainer.cfg
        return RuntimeError(
            f"source ended after {done:,} samples, which must be {cfg.training_samples:,}"
        )

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
        if self._row_fn is not None:
            for row in self._history.rows:
                self._row_fn(row)
        with self._naming_checkpoint():
            self._callbacks()

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch, and do what is due after it."""
        with self._naming_checkpoint():
            self._train(batch)
            self._callbacks()

    def finish(self) -> TrainingResult:
        """Save, and fold in what was learnt besides the weights, once it :attr:`is_done`."""
        trainer = self._trainer
        with self._naming_checkpoint():
            trainer.check_losses()
            trainer.check_weights()
        self.save()
        trainer.finish()
        sparsity = trainer.feature_sparsity.cpu()
        return TrainingResult(trainer.sae, self._history, sparsity, self.seconds)

    def close(self) -> None:
        """Put away the bar, and leave the SAE in the mode in which it came; may come twice."""
        self._open.close()

    @contextmanager
    def _naming_checkpoint(self) -> Iterator[None]:
        try:
            yield
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"{error}; {self._last_good()}") from error

    def _train(self, batch: torch.Tensor) -> None:
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
            rows: list[dict[str, float]] = []
            if logs:
                trainer.check_losses()
                rows.append(self._with_speed(figures))
            if trainer.steps_done % cfg.feature_sampling_window == 0:
                rows.append(trainer.window_figures())
            self._log(*rows)
        bar.update(min(len(batch), cfg.training_samples - before))

    def _with_speed(self, figures: dict[str, float]) -> dict[str, float]:
        samples, seconds = self._trainer.n_training_samples, self.seconds
        speed = (samples - self._row_samples) / max(seconds - self._row_seconds, 1e-9)
        self._row_samples, self._row_seconds = samples, seconds
        return {**figures, "samples_per_second": speed}

    def _log(self, *rows: Mapping[str, float]) -> None:
        step, samples = self._trainer.steps_done, self._trainer.n_training_samples
        # All of them before a logger sees one: it may raise KeyboardInterrupt, and these are saved.
        for row in [self._history.add(step, samples, figures) for figures in rows]:
            if self._logger is not None:
                self._logger.log(row, step)
            if self._row_fn is not None:
                self._row_fn(row)

    def _callbacks(self) -> None:
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
            self._evaluated_step = step
            self._log({f"eval/{name}": value for name, value in figures.items()})

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
            progress: dict[str, Any] = {
                "evaluated_step": self._evaluated_step,
                "snapshots": self._snapshots,
                "seconds": self.seconds,
            }
            if self._place is not None:
                progress["source"] = self._place.state()
            write_checkpoint(
                self._directory,
                Checkpoint(self._fingerprint, trainer.state_dict(), self._history, progress),
            )
            self._saved_step = trainer.steps_done
            if self._saved_fn is not None:
                self._saved_fn()
        self._saved_at = time.monotonic()

    def _last_good(self) -> str:
        if self._saved_step is None:
            return "there is no checkpoint"
        return f"the last good checkpoint is {self._directory}, after {self._saved_step} steps"


def _with_seed(cfg: TrainingConfig, saved: Checkpoint | None) -> TrainingConfig:
    """The config with the seed that it had when the run began, or a fresh one."""
    if cfg.seed is not None:
        return cfg
    known = None if saved is None else saved.fingerprint.get("stream", {}).get("seed")
    return replace(cfg, seed=fresh_seed() if known is None else known)
