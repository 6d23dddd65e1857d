"""What a training step takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from synthkern.engine.pre_activations import PreActivations
from synthkern.sparse import SparseActivations


@dataclass
class TrainStepInput:
    """One batch and what the losses depend on.

    Attributes:
        sae_in: [B, D].
        coefficients: of the losses, by the names that ``get_coefficients`` gives.
        dead_neuron_mask: [M] bool, latents that have not fired for long; None for none.
        n_training_steps: steps before this one.
        is_logging_step: whether metrics will be looked at.
        max_dead: None where shapes may follow the numbers. Else no shape depends on them and
            nothing waits for the device: entries are padded with zeros, and the auxiliary loss has
            room for this many dead latents, which must be at least as many as there are (or as it
            takes at most).
        steps_on_device: [] int64, ``n_training_steps`` where a replay of the step finds it, with
            ``max_dead``; None where a step is done once.
        target: what is to be reconstructed, [B, D_out]; None for ``sae_in`` itself.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2))
        >>> dead = torch.arange(16) < 4  # the first four latents have not fired for long
        >>> step = synthetic.TrainStepInput(torch.randn(10, 8), dead_neuron_mask=dead)
        >>> sorted(sae.training_forward_pass(step).losses)
        ['auxiliary_reconstruction_loss', 'mse_loss']
    """

    sae_in: torch.Tensor
    coefficients: dict[str, float] = field(default_factory=dict)
    dead_neuron_mask: torch.Tensor | None = None
    n_training_steps: int = 0
    is_logging_step: bool = False
    max_dead: int | None = None
    steps_on_device: torch.Tensor | None = None
    target: torch.Tensor | None = None


def room_of(step_input: TrainStepInput) -> int | None:
    """The input's ``max_dead``: SAELens' own inputs, which its trainer gives, have none."""
    return getattr(step_input, "max_dead", None)


def steps_on_device(step_input: TrainStepInput) -> torch.Tensor | None:
    """The input's ``steps_on_device``, of which the same is true."""
    return getattr(step_input, "steps_on_device", None)


def target_of(step: TrainStepInput | TrainStepOutput) -> torch.Tensor:
    """What is to be reconstructed: the step's ``target``, or its ``sae_in`` where there is none."""
    target: torch.Tensor | None = getattr(step, "target", None)
    return step.sae_in if target is None else target


@dataclass
class TrainStepOutput:
    """What a step computed.

    Attributes:
        sae_in: [B, D].
        sae_out: the reconstruction [B, D].
        latents: activations of the latents, [B, M] or in CSR form. In CSR form they are for
            looking at, some may be zeros: gradients flow through the loss alone.
        loss: the sum of the losses; call ``backward`` on this.
        losses: by name.
        pre: pre-activations [B, M] as the encoder gives them, perhaps made only where they are
            asked for; None where there are none.
        scale: [M] that the pre-activations are multiplied by for ``hidden_pre``, or None.
        shift: [M] that is added after that, or None.
        metrics: anything else worth logging.
        target: what ``sae_out`` is to be, [B, D_out]; None for ``sae_in`` itself.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2))
        >>> output = sae.training_forward_pass(synthetic.TrainStepInput(torch.randn(10, 8)))
        >>> output.loss.backward()
        >>> output.feature_acts.shape, sae.W_dec.grad.shape
        (torch.Size([10, 16]), torch.Size([16, 8]))
    """

    sae_in: torch.Tensor
    sae_out: torch.Tensor
    latents: torch.Tensor | SparseActivations
    loss: torch.Tensor
    losses: dict[str, torch.Tensor]
    pre: torch.Tensor | PreActivations | None = None
    scale: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    metrics: dict[str, torch.Tensor | float | Callable[[], torch.Tensor | float]] = field(
        default_factory=dict
    )
    target: torch.Tensor | None = None

    _released: bool = field(default=False, init=False, repr=False)

    def release_pre(self) -> None:
        """Let go of the pre-activations, which gradients do not need and [B, M] numbers are."""
        self.pre, self._released = None, True

    def add_loss(self, name: str, value: torch.Tensor) -> None:
        """Add a loss to those that the architecture has, as a subclass may in its step.

        Args:
            name: in ``losses``, which must not have it.
            value: of one number, with its gradients.

        Raises:
            ValueError: for a name that there is, or another shape.
        """
        if name in self.losses:
            raise ValueError(f"name must be none of {sorted(self.losses)}, got {name!r}")
        if value.numel() != 1:
            raise ValueError(f"value must be one number, got shape {list(value.shape)}")
        self.losses[name] = value.reshape(())
        self.loss = self.loss + value.reshape(()).to(self.loss.dtype)

    @property
    def feature_acts(self) -> torch.Tensor:
        """The latents as a dense tensor [B, M]; made when asked for where they are sparse."""
        latents = self.latents
        return latents.to_dense() if isinstance(latents, SparseActivations) else latents

    @property
    def hidden_pre(self) -> torch.Tensor:
        """Pre-activations [B, M], scaled and shifted; zeros where the architecture has none.

        Raises:
            RuntimeError: where they were let go, or are made when they are asked for and the
                weights or the input were changed in place before that.
        """
        if self._released:
            raise RuntimeError("the step's pre-activations were let go to save memory")
        if self.pre is None:
            return torch.zeros_like(self.feature_acts)
        pre = self.pre.dense() if isinstance(self.pre, PreActivations) else self.pre
        scaled = pre if self.scale is None else pre * self.scale
        return scaled if self.shift is None else scaled + self.shift

    @property
    def l0(self) -> float:
        """Mean number of active latents of a sample."""
        if isinstance(self.latents, SparseActivations):
            return float(self.latents.values.count_nonzero()) / max(self.latents.batch_size, 1)
        return float(self.latents.count_nonzero()) / max(self.latents.shape[0], 1)
