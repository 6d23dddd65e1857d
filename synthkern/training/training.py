"""A training that is ready to take batches: SAE, source, settings, from a checkpoint or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from synthkern.data.synthetic_stream import SyntheticStream
from synthkern.evaluation import eval_sae_on_synthetic_data
from synthkern.model.synthetic_model import SyntheticModel, as_model, is_foreign_model
from synthkern.stream import fresh_seed
from synthkern.training.batches import hidden_batches
from synthkern.training.checkpoint import (
    Checkpoint,
    check_checkpoint_folder,
    continuing,
    read_checkpoint,
)
from synthkern.training.config import TrainingConfig
from synthkern.training.firing import log_sparsity
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger
from synthkern.training.loop import Loop
from synthkern.training.random_states import random_states
from synthkern.training.scaler import ActivationScaler
from synthkern.training.trainer import SAETrainer

#: What batches may come from; see :func:`train_sae`.
Source: TypeAlias = SyntheticModel | SyntheticStream | Iterable[torch.Tensor]

#: Figures of an SAE in training, by name.
Evaluator: TypeAlias = Callable[[Any, ActivationScaler], Mapping[str, float]]

#: Evaluations look at samples from here on, which no training gets to.
EVALUATION_START = 2**63


@dataclass
class TrainingResult:
    """What a training gives.

    Attributes:
        sae: the SAE that was trained.
        history: the training curves.
        feature_sparsity: share of the last window's samples in which each latent fired, float32
            [M] on the CPU.
        seconds: that sampling and steps have taken, those before a checkpoint too.
    """

    sae: Any
    history: TrainingHistory
    feature_sparsity: torch.Tensor
    seconds: float

    @property
    def log_feature_sparsity(self) -> torch.Tensor:
        """Logarithm to base 10 of the share, 1e-10 added, [M]."""
        return log_sparsity(self.feature_sparsity)


class Training:
    """A training that is ready to take batches.

    Args:
        sae: as all that are not named here, see :func:`train_sae`.
        bar: keyword arguments of :class:`Loop` for the bar.

    Attributes:
        stream: that it is trained on, or None where the source is an iterable.
        is_resumed: whether it goes on from a checkpoint, with steps that are still to be done.
        random_states: of torch, where it begins or was cut off.
    """

    def __init__(
        self,
        sae: Any,
        source: Source,
        cfg: TrainingConfig | None = None,
        *,
        checkpoint_dir: Path | str | None = None,
        evaluator: Evaluator | None = None,
        snapshot_fn: Callable[[SAETrainer], None] | None = None,
        logger: Logger | None = None,
        bar: Mapping[str, Any] | None = None,
    ) -> None:
        cfg = TrainingConfig() if cfg is None else cfg
        if not isinstance(cfg, TrainingConfig):
            raise TypeError(f"cfg must be a TrainingConfig, got {cfg!r}")
        if cfg.n_snapshots and snapshot_fn is None:
            raise ValueError(f"snapshot_fn must be given with n_snapshots = {cfg.n_snapshots}")
        directory = None if checkpoint_dir is None else Path(checkpoint_dir)
        saved = None if directory is None else read_checkpoint(directory)
        if is_foreign_model(source):
            source = as_model("source", source)
        if isinstance(source, SyntheticModel) and not source.has_positions:
            # What has no seed and no index is sampled one batch after the other.
            evaluator = evaluator or _evaluator(source, None, cfg)
            source = _unseeded(source, cfg.batch_size)
        self._source = source
        self.stream = _stream(source, _with_seed(cfg, saved))
        if self.stream is None and directory is not None:
            raise ValueError(
                "source must be a SyntheticModel or a SyntheticStream with a checkpoint_dir, got "
                f"{type(source).__name__}"
            )
        if evaluator is None and self.stream is not None:
            evaluator = _evaluator(self.stream.source, self.stream.seed, cfg)
        if cfg.eval_every and evaluator is None and self.stream is None:
            raise ValueError(
                f"evaluator must be given with eval_every = {cfg.eval_every}, as source is no model"
            )
        self._trainer = SAETrainer(sae, cfg)
        recipe = _recipe(sae, cfg, self.stream)
        if saved is not None:
            assert directory is not None
            _check_same(directory, saved.recipe, recipe)
            with continuing(directory):
                self._trainer.load(saved.tensors, saved.values)
        if directory is not None:
            check_checkpoint_folder(directory)
        self._loop = Loop(
            self._trainer,
            recipe,
            directory,
            evaluator=evaluator,
            snapshot_fn=snapshot_fn,
            logger=logger,
            saved=saved,
            **(bar or {}),
        )
        given: Any = source if self.stream is None else ()
        width = getattr(sae.cfg, "d_in", None)
        self._given = hidden_batches(given, width, self._trainer.dtype)
        if self.stream is not None:
            self._trainer.data_provider = _unseeded(self.stream.source, cfg.batch_size)
        else:
            self._trainer.data_provider = source if isinstance(source, Iterator) else self._given
        self._first = 0 if self.stream is None else self.stream.state_dict()["position"]
        self.is_resumed = saved is not None and not self.is_done
        self.random_states = random_states(self.device)
        if self.is_resumed:
            self.random_states |= self._trainer.saved_random_states

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

    def begin(self) -> None:
        """Do what is due before the first batch."""
        self._loop.begin()

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch, and do what is due after it."""
        self._loop.step(batch)

    def save(self) -> None:
        """Write a checkpoint, where there is a directory for it."""
        self._loop.save()

    def finish(self) -> TrainingResult:
        """End the training, once it :attr:`is_done`."""
        history = self._loop.finish()
        sparsity = self._trainer.feature_sparsity.cpu()
        return TrainingResult(self._trainer.sae, history, sparsity, self._loop.seconds)

    def close(self) -> None:
        """Put away what was needed for steps; may come early, and twice."""
        self._loop.close()

    def count_seconds(self, seconds: float) -> None:
        """Note what sampling a batch has taken."""
        self._loop.seconds += seconds

    def estimate_scale(self) -> None:
        """Find the factor that inputs are scaled by, where the SAE wants one and has none yet."""
        wants = getattr(self._trainer.sae.cfg, "normalize_activations", "none")
        scaler = self._trainer.activation_scaler
        if wants == "expected_average_only_in" and scaler.scaling_factor is None:
            # Samples of a stream have places: these are looked at here and trained on after.
            batches = self._given if self.stream is None else self._stream_at(0)
            scaler.estimate(batches, self._trainer.cfg.n_batches_for_norm_estimate)

    def batches(self) -> Iterator[torch.Tensor]:
        """The batches that are still to be trained on."""
        return self._given if self.stream is None else self._stream_at(self.steps)

    def ended_early(self) -> RuntimeError:
        """What is wrong where there are no more batches."""
        done, cfg = self._trainer.n_training_samples, self._trainer.cfg
        return RuntimeError(
            f"source ended after {done:,} samples, which must be {cfg.training_samples:,}"
        )

    def batch_at(self, step: int) -> torch.Tensor:
        """The batch of a step, of a stream."""
        return next(self._stream_at(step))

    def _stream_at(self, step: int) -> Iterator[torch.Tensor]:
        assert self.stream is not None
        # The user's own stays where it is.
        stream: SyntheticStream = object.__new__(type(self.stream))
        stream.__dict__.update(vars(self.stream))
        source = self._source
        if isinstance(source, SyntheticModel) and source.device.type == self.device.type:
            # A thread that samples ahead competes with the step: on SynthSAEBench-16k and two
            # cores a run took 9% longer with it than on one batch in memory, and no longer without
            # it (medians of 7 runs in turn).
            stream.prefetch = 0
        # A step consumes a batch of each rank that shares the stream.
        stride = stream.batch_size * stream.ranks[1]
        position = (self._first + step * stride) % 2**64
        stream.load_state_dict({**stream.state_dict(), "position": position})
        return _hidden(stream)


class _WholeStream(SyntheticStream):
    """A stream that every rank of a process group has whole."""

    @property
    def ranks(self) -> tuple[int, int]:
        """The only one of one."""
        return 0, 1

    @property
    def of_group(self) -> tuple[int, int]:
        """The rank of this process, and how many there are."""
        return super().ranks


def _with_seed(cfg: TrainingConfig, saved: Checkpoint | None) -> TrainingConfig:
    """The config with the seed that it had when the run began, or a fresh one."""
    if cfg.seed is not None:
        return cfg
    known = None if saved is None else saved.recipe.get("stream", {}).get("seed")
    return replace(cfg, seed=fresh_seed() if known is None else known)


def _stream(source: Source, cfg: TrainingConfig) -> SyntheticStream | None:
    if isinstance(source, SyntheticModel):
        assert cfg.seed is not None
        return _WholeStream(source, cfg.batch_size, cfg.seed)
    if not isinstance(source, SyntheticStream):
        if not isinstance(source, Iterable):
            raise TypeError(f"source must be a model, a stream or an iterable, got {source!r}")
        return None
    if not isinstance(source.source, SyntheticModel) or source.with_features or source.as_numpy:
        raise ValueError(
            "source must be a stream of hidden activations as tensors and nothing else"
        )
    if source.batch_size != cfg.batch_size:
        raise ValueError(
            f"source must have the config's batch_size {cfg.batch_size}, got {source.batch_size}"
        )
    return source


def _unseeded(model: Any, batch_size: int) -> Iterator[torch.Tensor]:
    while True:
        yield model(batch_size)


def _hidden(stream: SyntheticStream) -> Iterator[torch.Tensor]:
    for batch in stream:
        assert isinstance(batch, torch.Tensor)
        yield batch


def _evaluator(model: Any, seed: int | None, cfg: TrainingConfig) -> Evaluator | None:
    """Evaluates on samples of a model: apart from those of the training where it has seeds."""
    if not cfg.eval_samples:
        return None
    assert isinstance(model, SyntheticModel)
    place: dict[str, Any] = {} if seed is None else {"seed": seed, "start": EVALUATION_START}

    def evaluate(sae: Any, scaler: ActivationScaler) -> Mapping[str, float]:
        return eval_sae_on_synthetic_data(
            sae,
            model.feature_dict,
            model.activation_generator,
            cfg.eval_samples,
            cfg.batch_size,
            scaler,
            **place,
        ).to_log_dict()

    return evaluate


def _recipe(sae: Any, cfg: TrainingConfig, stream: SyntheticStream | None) -> dict[str, Any]:
    """What decides the outcome, as JSON has it."""
    settings = cfg.to_dict()
    for name in ("seed", "checkpoint_seconds", "cuda_graph"):
        del settings[name]
    recipe: dict[str, Any] = {"training": settings, "sae": type(sae).__name__}
    if callable(getattr(sae.cfg, "to_dict", None)):
        recipe["sae config"] = {**sae.cfg.to_dict(), "metadata": None}
    if stream is not None:
        assert isinstance(stream.source, SyntheticModel)
        recipe["stream"] = stream.state_dict()
        rank, ranks = stream.of_group if isinstance(stream, _WholeStream) else stream.ranks
        if ranks > 1:
            recipe["rank"] = rank
        if stream.ranks[1] > 1:
            recipe["ranks"] = ranks
        recipe["world"] = stream.source.cfg.to_dict()
    found: dict[str, Any] = json.loads(json.dumps(recipe, default=str))
    return found


def _check_same(directory: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for place, before, after in _differences("", saved, now):
        raise ValueError(
            f"checkpoint_dir {directory} holds a run with {place} = {before!r}, got {after!r}: "
            "give another directory, or the settings of that run"
        )


def _differences(place: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            yield place, before, after
        return
    for name in {**before, **after}:
        inner = f"{place}.{name}" if place else name
        yield from _differences(inner, before.get(name), after.get(name))
