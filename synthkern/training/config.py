"""How an SAE is trained, as a dataclass that checks itself and round-trips through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from synthkern._checks import as_bool, as_float, as_int, as_seed, check_keys, plain_fields
from synthkern.sae.config import check_choice

#: Shapes of the learning rate between warm-up and decay.
LR_SCHEDULERS = ("constant", "linear", "cosineannealing", "cosineannealingwarmrestarts")


@dataclass
class TrainingConfig:
    """How long and how an SAE is trained; see :func:`train_sae`.

    Attributes:
        training_samples: at least 0; whole batches are trained, so that the last may go beyond.
        batch_size: samples of a step.
        seed: of the stream of samples; None draws one from torch's global generator.
        lr: the learning rate, Adam's.
        lr_scheduler_name: what it does between warm-up and decay: "constant", or from ``lr`` to
            ``lr_end`` "linear", "cosineannealing" (half a cosine) or
            "cosineannealingwarmrestarts" (``n_restart_cycles`` of these).
        lr_warm_up_steps: in which it grows from 0, linearly, before that.
        lr_decay_steps: in which it falls to 0, linearly, after that.
        lr_end: None for a tenth of ``lr``; "constant" has no use for it.
        n_restart_cycles: of "cosineannealingwarmrestarts".
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        max_grad_norm: what the norm of all gradients is clipped to; None for no clipping.
        autocast: whether the SAE's forward pass runs under torch.autocast to bfloat16.
        cuda_graph: whether whole steps are replayed as a CUDA graph, on a GPU, where the SAE is one
            of this package's TopK, BatchTopK or Matryoshka BatchTopK. What is not a tensor, its
            config above all, is then looked at in the first steps alone.
        target_l0: the mean number of active latents that the sparsity coefficient is adjusted to
            meet, where the SAE has one; None leaves it as it is.
        dead_feature_window: steps without firing after which a latent counts as dead.
        feature_sampling_window: steps that the rates of latents are counted over.
        n_batches_for_norm_estimate: which the mean norm of the inputs is estimated on, where the
            SAE's ``normalize_activations`` asks for it.
        log_every: steps between rows of the training curves.
        eval_every: steps between evaluations; 0 for none.
        eval_samples: samples of an evaluation.
        n_snapshots: evenly spaced calls of the snapshot function.
        checkpoint_seconds: between checkpoints; 0 writes one after every step.

    Raises:
        ValueError: for a value outside its range.
        TypeError: for a value of a wrong type.
    """

    training_samples: int = 10_000_000
    batch_size: int = 1024
    seed: int | None = None
    lr: float = 3e-4
    lr_scheduler_name: str = "constant"
    lr_warm_up_steps: int = 0
    lr_decay_steps: int = 0
    lr_end: float | None = None
    n_restart_cycles: int = 1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float | None = None
    autocast: bool = False
    cuda_graph: bool = True
    target_l0: float | None = None
    dead_feature_window: int = 1000
    feature_sampling_window: int = 2000
    n_batches_for_norm_estimate: int = 1000
    log_every: int = 100
    eval_every: int = 0
    eval_samples: int = 100_000
    n_snapshots: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        plain_fields(self)
        self.training_samples = as_int("training_samples", self.training_samples, low=0)
        as_int("batch_size", self.batch_size, low=1, high=2**31 - 1)
        if self.seed is not None:
            as_seed("seed", self.seed)
        as_float("lr", self.lr, low=0, open_low=True)
        check_choice("lr_scheduler_name", self.lr_scheduler_name, LR_SCHEDULERS)
        as_int("lr_warm_up_steps", self.lr_warm_up_steps, low=0)
        as_int("lr_decay_steps", self.lr_decay_steps, low=0)
        if self.lr_end is None:
            self.lr_end = self.lr / 10
        as_float("lr_end", self.lr_end, low=0)
        as_int("n_restart_cycles", self.n_restart_cycles, low=1)
        for name in ("adam_beta1", "adam_beta2"):
            if as_float(name, getattr(self, name), low=0) >= 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)!r}")
        if self.max_grad_norm is not None:
            as_float("max_grad_norm", self.max_grad_norm, low=0, open_low=True)
        as_bool("autocast", self.autocast)
        as_bool("cuda_graph", self.cuda_graph)
        if self.target_l0 is not None:
            as_float("target_l0", self.target_l0, low=0, open_low=True)
        as_int("dead_feature_window", self.dead_feature_window, low=0)
        as_int("feature_sampling_window", self.feature_sampling_window, low=1)
        as_int("n_batches_for_norm_estimate", self.n_batches_for_norm_estimate, low=1)
        as_int("log_every", self.log_every, low=1)
        as_int("eval_every", self.eval_every, low=0)
        as_int("eval_samples", self.eval_samples, low=1)
        as_int("n_snapshots", self.n_snapshots, low=0)
        as_float("checkpoint_seconds", self.checkpoint_seconds, low=0)
        around = self.lr_warm_up_steps + self.lr_decay_steps
        if around > self.training_steps:
            raise ValueError(
                f"lr_warm_up_steps + lr_decay_steps must be at most the {self.training_steps} "
                f"steps of training, got {around}"
            )

    @property
    def training_steps(self) -> int:
        """Number of batches that have ``training_samples`` at least."""
        return -(-self.training_samples // self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingConfig:
        """The config that :meth:`to_dict` describes; unknown keys are refused."""
        check_keys("data", data, {f.name for f in fields(cls)})
        return cls(**data)
