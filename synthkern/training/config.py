"""How an SAE is trained, as a dataclass that checks itself and round-trips through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from synthkern._checks import as_bool, as_float, as_int, as_seed, check_keys, plain_fields
from synthkern.sae.config import check_choice

#: Shapes of the learning rate between warm-up and decay.
LR_SCHEDULERS = ("constant", "linear", "cosineannealing", "cosineannealingwarmrestarts")

#: Fields that are integers, and the least of each.
_COUNTS = {
    "lr_warm_up_steps": 0,
    "lr_decay_steps": 0,
    "n_restart_cycles": 1,
    "dead_feature_window": 0,
    "feature_sampling_window": 1,
    "n_batches_for_norm_estimate": 1,
    "log_every": 1,
    "eval_every": 0,
    "eval_samples": 0,
    "n_snapshots": 0,
}


@dataclass
class TrainingConfig:
    """How long and how an SAE is trained; see :func:`train_sae`.

    Attributes:
        training_samples: at least 0, also as a float such as 1e6; whole batches are trained, so
            that the last may go beyond.
        batch_size: samples of a step; an iterable's batches are as large as they come, and its
            schedules go by the size of the first.
        seed: of the stream of samples; None draws one from torch's global generator.
        lr: the learning rate, Adam's; 0 changes no weight.
        lr_scheduler_name: what it does between warm-up and decay: "constant", or from ``lr`` to
            ``lr_end`` "linear", "cosineannealing" (half a cosine) or
            "cosineannealingwarmrestarts" (``n_restart_cycles`` of these).
        lr_warm_up_steps: in which it grows from 0, linearly, before that; may be more than there
            are.
        lr_decay_steps: in which it falls to 0, linearly, at the end; the warm-up gives way.
        lr_end: None for a tenth of ``lr``; "constant" has no use for it.
        n_restart_cycles: of "cosineannealingwarmrestarts".
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        max_grad_norm: what the norm of all gradients is clipped to; None for no clipping.
        autocast: whether the SAE's forward pass runs under torch.autocast to bfloat16, as the
            published protocol trains: dense products are of bfloat16 numbers, added up in float32
            and rounded to bfloat16 once. Parameters, Adam and what is sparse stay in the SAE's
            dtype. Faster on a GPU, and on a processor with bfloat16 arithmetic (AVX512-BF16, AMX,
            newer ARM); a training on another one warns.
        cuda_graph: whether whole steps are replayed as a CUDA graph, on a GPU, where the SAE is one
            of this package's TopK, AbsTopK, BatchTopK or Matryoshka BatchTopK. What is not a
            tensor, its config above all, is then looked at in the first steps alone.
        target_l0: the mean number of active latents that the sparsity coefficient is adjusted to
            meet, from the end of its warm-up on, where the SAE has one; None leaves it as it is.
        dead_feature_window: steps without firing after which a latent counts as dead.
        resample_dead_every: steps between resamplings, in which dead latents begin anew at inputs
            that the SAE reconstructs badly and Adam forgets what it knew of them (Bricken et al.
            2023, "Towards Monosemanticity", every 25,000 steps); they then count as alive for
            ``dead_feature_window`` steps. None for never, and none is done after the last step.
            For every SAE that trains a ``W_enc`` [D, M] and a ``W_dec`` [M, D].
        feature_sampling_window: steps that the rates of latents are counted over.
        n_batches_for_norm_estimate: which the mean norm of the inputs is estimated on, where the
            SAE's ``normalize_activations`` asks for it.
        log_every: steps between rows of the training curves.
        eval_every: steps between evaluations; 0 for none.
        eval_samples: samples of an evaluation; 0 for none, but by an evaluator that is given.
        n_snapshots: evenly spaced calls of the snapshot function.
        checkpoint_seconds: between checkpoints; 0 writes one after every step.

    Raises:
        ValueError: for a value outside its range.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.TrainingConfig(training_samples=1e6, batch_size=1000, lr=1e-3)
        >>> cfg.training_steps, cfg.lr_end
        (1000, 0.0001)
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
    resample_dead_every: int | None = None

    # No field: a trainer sets it on its copy, as SAELens names it.
    device = "cpu"

    def __post_init__(self) -> None:
        plain_fields(self)
        samples: Any = self.training_samples
        if isinstance(samples, float) and samples.is_integer():
            # As 1e6 is written.
            samples = int(samples)
        self.training_samples = as_int("training_samples", samples, low=0)
        self.batch_size = as_int("batch_size", self.batch_size, low=1, high=2**31 - 1)
        if self.seed is not None:
            self.seed = as_seed("seed", self.seed)
        self.lr = as_float("lr", self.lr, low=0)
        check_choice("lr_scheduler_name", self.lr_scheduler_name, LR_SCHEDULERS)
        if self.lr_end is None:
            self.lr_end = self.lr / 10
        self.lr_end = as_float("lr_end", self.lr_end, low=0)
        for name in ("adam_beta1", "adam_beta2"):
            setattr(self, name, as_float(name, getattr(self, name), low=0))
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)!r}")
        for name in ("max_grad_norm", "target_l0"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, as_float(name, value, low=0, open_low=True))
        for name in ("autocast", "cuda_graph"):
            setattr(self, name, as_bool(name, getattr(self, name)))
        for name, low in _COUNTS.items():
            setattr(self, name, as_int(name, getattr(self, name), low=low))
        self.checkpoint_seconds = as_float("checkpoint_seconds", self.checkpoint_seconds, low=0)
        if self.resample_dead_every is not None:
            self.resample_dead_every = as_int(
                "resample_dead_every", self.resample_dead_every, low=1
            )

    @property
    def training_steps(self) -> int:
        """Number of batches that have ``training_samples`` at least."""
        return -(-self.training_samples // self.batch_size)

    @property
    def total_training_samples(self) -> int:
        """``training_samples``, as SAELens' trainer has it."""
        return self.training_samples

    @property
    def total_training_steps(self) -> int:
        """Whole batches in ``training_samples``, as SAELens' trainer has it: it does not count a
        last step that goes beyond them.
        """
        return self.training_samples // self.batch_size

    @property
    def n_checkpoints(self) -> int:
        """``n_snapshots``, as SAELens' trainer has it."""
        return self.n_snapshots

    @property
    def train_batch_size_samples(self) -> int:
        """``batch_size``, as SAELens' trainer has it."""
        return self.batch_size

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingConfig:
        """The config that :meth:`to_dict` describes; unknown keys are refused."""
        check_keys("data", data, {f.name for f in fields(cls)})
        return cls(**data)
