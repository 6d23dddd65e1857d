"""A training's settings under the names that SAELens' trainer has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from synthkern.storage.paths import as_optional_path


@dataclass
class SAETrainerConfig:
    """What SAELens' ``SAETrainer`` takes, field by field as its own config.

    Attributes:
        total_training_samples: samples to train on.
        train_batch_size_samples: samples of a step.
        lr: as all that are not named here, see :class:`TrainingConfig`.
        device: of the SAE.
        n_checkpoints: copies of the SAE on the way.
        checkpoint_path: folder of these.
        save_final_checkpoint: whether there is one at the end.
        logger: a logging config.
    """

    total_training_samples: int
    train_batch_size_samples: int
    lr: float = 3e-4
    lr_end: float | None = None
    lr_scheduler_name: str = "constant"
    lr_warm_up_steps: int = 0
    lr_decay_steps: int = 0
    n_restart_cycles: int = 1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    device: str = "cpu"
    autocast: bool = False
    dead_feature_window: int = 1000
    feature_sampling_window: int = 2000
    n_checkpoints: int = 0
    checkpoint_path: str | None = None
    save_final_checkpoint: bool = False
    logger: Any = None
    n_batches_for_norm_estimate: int = 1000

    def __post_init__(self) -> None:
        path = as_optional_path("checkpoint_path", self.checkpoint_path)
        self.checkpoint_path = None if path is None else str(path)

    @property
    def total_training_steps(self) -> int:
        """Whole batches of the samples."""
        return self.total_training_samples // self.train_batch_size_samples
