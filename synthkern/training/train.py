"""Training an SAE on a stream of samples, from a checkpoint where there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch

from synthkern.evaluation import eval_sae_on_synthetic_data
from synthkern.stream import fresh_seed
from synthkern.synthetic_model import SyntheticModel
from synthkern.synthetic_stream import SyntheticStream
from synthkern.training.checkpoint import Checkpoint, read_checkpoint
from synthkern.training.config import TrainingConfig
from synthkern.training.firing import log_sparsity
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger
from synthkern.training.loop import Loop
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
    """

    sae: Any
    history: TrainingHistory
    feature_sparsity: torch.Tensor

    @property
    def log_feature_sparsity(self) -> torch.Tensor:
        """Logarithm to base 10 of the share, 1e-10 added, [M]."""
        return log_sparsity(self.feature_sparsity)


def train_sae(
    sae: Any,
    source: Source,
    cfg: TrainingConfig | None = None,
    *,
    checkpoint_dir: Path | str | None = None,
    evaluator: Evaluator | None = None,
    snapshot_fn: Callable[[SAETrainer], None] | None = None,
    logger: Logger | None = None,
) -> TrainingResult:
    """Train an SAE, in place, on the device that it is on.

    Adam; the schedules of the learning rate and the coefficients are functions of the step. A bar
    shows loss, L0 and samples per second. Where the SAE's config says
    ``normalize_activations="expected_average_only_in"``, inputs are scaled to a mean norm of
    sqrt(D), and at the end the scale is folded into the weights. ``cfg.metadata`` then has the
    window's L0 (``l0``) and the number of dead latents (``num_dead_features``).

    With ``checkpoint_dir``, the same call goes on where a run was cut off, by whatever it was, and
    ends with the same bits as one that was not, on a CPU with as many threads. Ctrl-C writes a
    checkpoint first.

    Args:
        sae: a :class:`TrainingSAE`, or any module with the field's training interface.
        source: a model, whose stream of the config's seed is trained on from sample 0; a
            :class:`SyntheticStream` of hidden activations; or any iterable of batches [B, D],
            which cannot be continued.
        cfg: the settings; None for the defaults.
        checkpoint_dir: of the one checkpoint, replaced every ``cfg.checkpoint_seconds``; None for
            none.
        evaluator: gives figures of the SAE and the scaler of its inputs every ``cfg.eval_every``
            steps; None is :func:`eval_sae_on_synthetic_data`, where the source is a model's.
        snapshot_fn: called with the trainer ``cfg.n_snapshots`` times.
        logger: takes the rows of the training curves as well.

    Returns:
        the training curves, and how often each latent fired at the end.

    Raises:
        NonFiniteLossError: where a loss is NaN or infinite; it names the step, the samples and
            the last checkpoint.
        ValueError: for settings that do not fit SAE or source, or that another run's checkpoint is
            in the directory.
        TypeError: for a value of a wrong type.
        RuntimeError: where an iterable ends too early.
    """
    cfg = TrainingConfig() if cfg is None else cfg
    if not isinstance(cfg, TrainingConfig):
        raise TypeError(f"cfg must be a TrainingConfig, got {cfg!r}")
    if cfg.n_snapshots and snapshot_fn is None:
        raise ValueError(f"snapshot_fn must be given with n_snapshots = {cfg.n_snapshots}")
    directory = None if checkpoint_dir is None else Path(checkpoint_dir)
    saved = None if directory is None else read_checkpoint(directory)
    stream = _stream(source, _with_seed(cfg, saved))
    if stream is None and directory is not None:
        raise ValueError(
            "source must be a SyntheticModel or a SyntheticStream with a checkpoint_dir, got "
            f"{type(source).__name__}"
        )
    evaluator = evaluator or _evaluator(stream, cfg)
    if cfg.eval_every and evaluator is None:
        raise ValueError(
            f"evaluator must be given with eval_every = {cfg.eval_every}, as source is no model"
        )
    trainer = SAETrainer(sae, cfg)
    recipe = _recipe(sae, cfg, stream)
    if saved is not None:
        assert directory is not None
        _check_same(directory, saved.recipe, recipe)
        trainer.load(saved.tensors, saved.values)
    loop = Loop(
        trainer,
        recipe,
        directory,
        evaluator=evaluator,
        snapshot_fn=snapshot_fn,
        logger=logger,
        saved=saved,
    )
    history = loop.run(_batches(source, stream, trainer))
    return TrainingResult(sae, history, trainer.feature_sparsity.cpu())


def _with_seed(cfg: TrainingConfig, saved: Checkpoint | None) -> TrainingConfig:
    """The config with the seed that it had when the run began, or a fresh one."""
    if cfg.seed is not None:
        return cfg
    known = None if saved is None else saved.recipe.get("stream", {}).get("seed")
    return replace(cfg, seed=fresh_seed() if known is None else known)


def _stream(source: Source, cfg: TrainingConfig) -> SyntheticStream | None:
    if isinstance(source, SyntheticModel):
        assert cfg.seed is not None
        return SyntheticStream(source, cfg.batch_size, cfg.seed)
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


def _batches(
    source: Source, stream: SyntheticStream | None, trainer: SAETrainer
) -> Iterator[torch.Tensor]:
    """The batches that are still to be trained on, scaled by what the first ones say."""
    cfg, scaler = trainer.cfg, trainer.activation_scaler
    wants = getattr(trainer.sae.cfg, "normalize_activations", "none")
    estimates = wants == "expected_average_only_in" and scaler.scaling_factor is None
    if stream is None:
        given: Any = source
        batches: Iterator[torch.Tensor] = iter(given)
        if estimates:
            scaler.estimate(batches, cfg.n_batches_for_norm_estimate)
        return batches
    if isinstance(source, SyntheticModel) and source.device.type == trainer.device.type:
        # A thread that samples ahead competes with the step: on SynthSAEBench-16k and two cores a
        # run took 9% longer with it than on one batch in memory, and no longer without it
        # (medians of 7 runs in turn).
        stream.prefetch = 0
    state = stream.state_dict()
    if estimates:
        # Samples have places: these are looked at here and trained on after.
        scaler.estimate(_hidden(stream), cfg.n_batches_for_norm_estimate)
    position = (state["position"] + trainer.n_training_samples) % 2**64
    stream.load_state_dict({**state, "position": position})
    return _hidden(stream)


def _hidden(stream: SyntheticStream) -> Iterator[torch.Tensor]:
    for batch in stream:
        assert isinstance(batch, torch.Tensor)
        yield batch


def _evaluator(stream: SyntheticStream | None, cfg: TrainingConfig) -> Evaluator | None:
    if stream is None:
        return None
    model, seed = stream.source, stream.seed
    assert isinstance(model, SyntheticModel)

    def evaluate(sae: Any, scaler: ActivationScaler) -> Mapping[str, float]:
        return eval_sae_on_synthetic_data(
            sae,
            model.feature_dict,
            model.activation_generator,
            cfg.eval_samples,
            cfg.batch_size,
            scaler,
            seed=seed,
            start=EVALUATION_START,
        ).to_log_dict()

    return evaluate


def _recipe(sae: Any, cfg: TrainingConfig, stream: SyntheticStream | None) -> dict[str, Any]:
    """What decides the outcome, as JSON has it."""
    settings = cfg.to_dict()
    for name in ("seed", "checkpoint_seconds"):
        del settings[name]
    recipe: dict[str, Any] = {"training": settings, "sae": type(sae).__name__}
    if callable(getattr(sae.cfg, "to_dict", None)):
        recipe["sae config"] = {**sae.cfg.to_dict(), "metadata": None}
    if stream is not None:
        assert isinstance(stream.source, SyntheticModel)
        recipe["stream"] = stream.state_dict()
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
