"""Training an SAE on a stream of samples, from a checkpoint where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synthkern.storage.paths import AnyPath
from synthkern.training.batch_source import Evaluator, Source
from synthkern.training.config import TrainingConfig
from synthkern.training.loggers import Logger
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.together import train_together
from synthkern.training.trainer import SAETrainer


def train_sae(
    sae: Any,
    source: Source,
    cfg: TrainingConfig | None = None,
    *,
    checkpoint_dir: AnyPath | None = None,
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

    Torch's global random numbers are left alone: only what source, SAE and functions of the
    caller's draw moves them on. A training that goes on from a checkpoint draws from where it was
    cut off, and leaves the numbers of the process as it found them.

    In a process group of torch.distributed every rank trains an SAE of its own: on the whole of a
    model's stream, that of the config's seed, or on the rank's batches of a stream that is given.
    Gradients are not averaged. Ranks need a ``checkpoint_dir`` each.

    The SAE keeps no trace besides what is said here: parameters have no gradients left, and it is
    in the mode, training or not, in which it came.

    Args:
        sae: a :class:`TrainingSAE`, or any module with the field's training interface.
        source: a model, whose stream of the config's seed is trained on from sample 0; a
            :class:`SyntheticStream` of hidden activations; or any iterable of batches [B, D],
            which can be continued where it has ``state_dict`` (of JSON's types) and
            ``load_state_dict``, as stateful data loaders have. Its batches are tensors, NumPy
            arrays, or lists of one of these, of a crosscoder or a transcoder tuples of tensors or
            arrays [B, D_v]; it is gone through once, until there were ``cfg.training_samples``
            samples.
        cfg: the settings; None for the defaults.
        checkpoint_dir: of the one checkpoint, replaced every ``cfg.checkpoint_seconds``; None for
            none.
        evaluator: gives figures of the SAE and the scaler of its inputs every ``cfg.eval_every``
            steps; None is :func:`eval_sae_on_synthetic_data`, where the source is a model's.
        snapshot_fn: called with the trainer ``cfg.n_snapshots`` times, before its
            ``n_training_steps`` counts the step that was just done, as in SAELens. Its
            ``sae_to_keep()`` has the scale of the inputs folded in, its ``sae`` has not.
        logger: takes the rows of the training curves as well.

    Returns:
        the training curves, and how often each latent fired at the end.

    Raises:
        NonFiniteLossError: where a loss is NaN or infinite; it names the step, the samples and
            the last checkpoint.
        ValueError: for settings that do not fit SAE or source, or that another run's checkpoint is
            in the directory.
        TypeError: for a value or a batch of a wrong type.
        RuntimeError: where an iterable ends too early, for the training or for the norm's
            estimate.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(5120, batch_size=256, lr=0.02, log_every=10, seed=0)
        >>> samples, losses = synthetic.train_sae(sae, model, cfg).history.curve("loss")
        >>> losses[-1] < losses[0]
        True
    """
    run = TrainingRun(
        sae,
        source,
        cfg,
        checkpoint_dir=checkpoint_dir,
        evaluator=evaluator,
        snapshot_fn=snapshot_fn,
        logger=logger,
    )
    (outcome,) = train_together([run])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
