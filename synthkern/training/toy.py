"""The field's one-line training of an SAE on a dictionary and a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from synthkern._checks import as_bool
from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.sae.module_modes import evaluating
from synthkern.training.config import TrainingConfig
from synthkern.training.run import TrainingResult
from synthkern.training.train import train_sae
from synthkern.training.trainer import SAETrainer

#: What the field's trainer clips the norm of the gradients to.
FIELD_MAX_GRAD_NORM = 1.0


def train_toy_sae(
    sae: Any,
    feature_dict: Any,
    activations_generator: Any,
    training_samples: int = 10_000_000,
    batch_size: int = 1024,
    lr: float = 3e-4,
    lr_warm_up_steps: int = 0,
    lr_decay_steps: int = 0,
    device: str | torch.device = "cpu",
    n_snapshots: int = 0,
    snapshot_fn: Callable[[SAETrainer], None] | None = None,
    autocast_sae: bool = False,
    autocast_data: bool = False,
) -> TrainingResult:
    """Train an SAE on a generator's samples, in place, with the field's usual settings.

    Adam with a constant rate, gradients clipped to a norm of 1; samples follow from torch's global
    generator. See :func:`train_sae` for everything else, and for checkpoints.

    Args:
        sae: any module with the field's training interface; it is moved to ``device``.
        feature_dict: the dictionary, D wide; a module is in evaluation mode meanwhile.
        activations_generator: a generator of as many features; both as
            :class:`SyntheticActivationIterator` takes them.
        training_samples: at least 0, also as a float such as 1e6.
        batch_size: samples of a step, at least 1.
        lr: the learning rate, at least 0.
        lr_warm_up_steps: in which it grows from 0.
        lr_decay_steps: in which it falls to 0 at the end.
        device: where the SAE is trained.
        n_snapshots: evenly spaced calls of ``snapshot_fn``.
        snapshot_fn: called with the :class:`SAETrainer`, before ``n_training_steps`` counts the
            step that was just done, as in SAELens.
        autocast_sae: whether the SAE's forward pass runs under torch.autocast to bfloat16.
        autocast_data: as ``autocast`` of :class:`SyntheticActivationIterator`.

    Returns:
        the training curves, and how often each latent fired at the end.

    Raises:
        ValueError: for a value out of range, or snapshots without a function.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> features, generator = model.feature_dict, model.activation_generator
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> result = synthetic.train_toy_sae(sae, features, generator, 64, batch_size=16)
        >>> result.feature_sparsity.shape
        torch.Size([8])
    """
    cfg = TrainingConfig(
        training_samples=training_samples,
        batch_size=batch_size,
        lr=lr,
        lr_warm_up_steps=lr_warm_up_steps,
        lr_decay_steps=lr_decay_steps,
        lr_end=lr,
        max_grad_norm=FIELD_MAX_GRAD_NORM,
        autocast=as_bool("autocast_sae", autocast_sae),
        n_snapshots=n_snapshots,
    )
    batches = SyntheticActivationIterator(
        feature_dict, activations_generator, batch_size, autocast_data
    )
    sae.to(device)
    with evaluating(feature_dict):
        return train_sae(sae, batches, cfg, snapshot_fn=snapshot_fn)
