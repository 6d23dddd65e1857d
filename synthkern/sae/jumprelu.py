"""JumpReLU: every latent has a threshold, which straight-through estimators train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from synthkern._checks import as_bool, as_float, as_int
from synthkern.sae.active import Active, active
from synthkern.sae.base import reconstruction_loss, total
from synthkern.sae.config import (
    TARGET_L0,
    TrainCoefficientConfig,
    TrainingSAEConfig,
    check_choice,
    coefficient,
)
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.straight_through import heaviside, jumprelu
from synthkern.sae.threshold import ThresholdTrainingSAE
from synthkern.world.registry import named

_MODES = ("step", "tanh", "quadratic")


@dataclass
class JumpReLUTrainingSAEConfig(TrainingSAEConfig):
    """A JumpReLU SAE; see :class:`JumpReLUTrainingSAE`.

    Attributes:
        jumprelu_init_threshold: of every latent at the start.
        jumprelu_bandwidth: of the estimators' window around a threshold.
        jumprelu_sparsity_loss_mode: "step" (L0), "tanh", or "quadratic" around ``target_l0``.
        l0_coefficient: of the sparsity loss.
        l0_warm_up_steps: in which the coefficient grows from 0.
        pre_act_loss_coefficient: of the loss that lifts dead latents; None for none.
        jumprelu_tanh_scale: of the activations within the tanh.
        jumprelu_ste_to_input: whether the estimators move the encoder too, not the threshold
            alone.
        target_l0: of "quadratic" alone.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.JumpReLUTrainingSAEConfig(d_in=8, d_sae=16, l0_coefficient=0.2)
        >>> synthetic.make_sae(cfg).get_coefficients()
        {'l0': TrainCoefficientConfig(value=0.2, warm_up_steps=0)}
    """

    l0_setting = TARGET_L0
    training_only = TrainingSAEConfig.training_only | {
        "jumprelu_init_threshold",
        "jumprelu_bandwidth",
        "jumprelu_sparsity_loss_mode",
        "l0_coefficient",
        "l0_warm_up_steps",
        "pre_act_loss_coefficient",
        "jumprelu_tanh_scale",
        "jumprelu_ste_to_input",
        "target_l0",
    }

    jumprelu_init_threshold: float = 0.01
    jumprelu_bandwidth: float = 0.05
    jumprelu_sparsity_loss_mode: str = "step"
    l0_coefficient: float = 1.0
    l0_warm_up_steps: int = 0
    pre_act_loss_coefficient: float | None = None
    jumprelu_tanh_scale: float = 4.0
    jumprelu_ste_to_input: bool = False
    target_l0: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        as_float("jumprelu_init_threshold", self.jumprelu_init_threshold, low=0)
        as_float("jumprelu_bandwidth", self.jumprelu_bandwidth, low=0, open_low=True)
        check_choice("jumprelu_sparsity_loss_mode", self.jumprelu_sparsity_loss_mode, _MODES)
        as_float("l0_coefficient", self.l0_coefficient, low=0)
        as_int("l0_warm_up_steps", self.l0_warm_up_steps, low=0)
        if self.pre_act_loss_coefficient is not None:
            as_float("pre_act_loss_coefficient", self.pre_act_loss_coefficient, low=0)
        as_float("jumprelu_tanh_scale", self.jumprelu_tanh_scale, low=0)
        as_bool("jumprelu_ste_to_input", self.jumprelu_ste_to_input)
        if self.target_l0 is not None:
            as_float("target_l0", self.target_l0, low=0, high=self.d_sae, open_low=True)
        elif self.jumprelu_sparsity_loss_mode == "quadratic":
            raise ValueError("target_l0 must be a number with the sparsity loss 'quadratic'")

    architecture = named("jumprelu")


class JumpReLUTrainingSAE(ThresholdTrainingSAE):
    """A JumpReLU SAE (Rajamanoharan et al. 2024, "Jumping Ahead").

    A latent passes where it exceeds its threshold. The sparsity loss is the L0 as published
    there ("step"), the tanh of Anthropic's update of January 2025 (Conerly et al., with the loss
    that lifts dead latents), or Gemma Scope 2's square around a target ("quadratic"). Thresholds
    are trained as they are, not as logarithms, and kept from falling below 0.

    Attributes:
        threshold: parameter [M], float32 whatever the config's dtype: Adam's small steps would
            be rounded away in less.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.JumpReLUTrainingSAEConfig(d_in=8, d_sae=16, jumprelu_init_threshold=0.1)
        >>> sae = synthetic.JumpReLUTrainingSAE(cfg)
        >>> latents = sae.encode(torch.randn(10, 8))
        >>> bool((latents[latents != 0] > 0.1).all())
        True
    """

    config_class = JumpReLUTrainingSAEConfig
    latent_vectors = ("b_enc", "threshold")

    cfg: JumpReLUTrainingSAEConfig
    threshold: nn.Parameter

    def initialize_weights(self) -> None:
        """The base's weights, and the thresholds."""
        super().initialize_weights()
        start = self.cfg.jumprelu_init_threshold
        self.threshold = nn.Parameter(
            torch.full((self.cfg.d_sae,), start, dtype=torch.float32, device=self.cfg.device)
        )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Conversions of the module leave the thresholds in float32, with all of their digits."""
        before = self.threshold.data
        applied = super()._apply(fn, recurse)
        after = self.threshold.data
        self.threshold.data = (after if before.is_meta else before.to(after.device)).float()
        return applied

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """The coefficient "l0"."""
        return {"l0": coefficient(self.cfg.l0_coefficient, self.cfg.l0_warm_up_steps)}

    @property
    def thresholds(self) -> torch.Tensor:
        """The thresholds [M], as the pre-activations are compared with them."""
        return self.threshold.to(self.W_dec.dtype)

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and pre-activations, both [..., M], of inputs [..., D]."""
        pre = self.pre_activations(x)
        return jumprelu(pre, self.thresholds.expand_as(pre), *self._estimator), pre

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch [B, D]: of the reconstruction, and of the sparsity.

        Thresholds below 0 are set to 0 first.
        """
        with torch.no_grad():
            self.threshold.clamp_(min=0)
        sae_in = step_input.sae_in
        thresholds = (self.threshold - self.cfg.jumprelu_bandwidth / 2).to(self.W_dec.dtype)
        found = active(self, sae_in, self.b_enc, thresholds)
        threshold = found.of_latents(self.threshold.to(self.W_dec.dtype))
        acts = jumprelu(found.values, threshold, *self._estimator)
        sae_out = found.decode(acts, self.W_dec, self.b_dec)
        sparsity = self._sparsity(found, acts, threshold).mean()
        losses = {
            "mse_loss": reconstruction_loss(sae_out, sae_in),
            "l0_loss": step_input.coefficients["l0"] * sparsity,
        }
        if self.cfg.pre_act_loss_coefficient is not None:
            lift = self._below_threshold(sae_in, step_input.dead_neuron_mask)
            losses["pre_act_loss"] = self.cfg.pre_act_loss_coefficient * lift
        return TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            latents=found.latents(acts),
            loss=total(losses),
            losses=losses,
            pre=found.pre,
        )

    @property
    def _estimator(self) -> tuple[float, bool]:
        return self.cfg.jumprelu_bandwidth, self.cfg.jumprelu_ste_to_input

    def _sparsity(self, found: Active, acts: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """The penalty of every sample, [B]."""
        if self.cfg.jumprelu_sparsity_loss_mode == "tanh":
            norms = found.of_latents(torch.linalg.vector_norm(self.W_dec, dim=1))
            return found.sample_sums((self.cfg.jumprelu_tanh_scale * acts * norms).tanh())
        l0 = found.sample_sums(heaviside(found.values, threshold, *self._estimator))
        if self.cfg.jumprelu_sparsity_loss_mode == "step":
            return l0
        target = self.cfg.target_l0
        assert target is not None
        return 2 / target * (l0 - target).square()

    def _below_threshold(self, sae_in: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """How far dead latents stay below their thresholds, times their decoder's norms."""
        dead = None if mask is None else mask.nonzero().flatten()
        if dead is None or not dead.numel():
            return self.W_dec.new_zeros(())
        rows = self.W_enc.T[dead]
        pre = nn.functional.linear(self.centred(sae_in), rows, self.b_enc[dead])
        missing = (self.threshold.to(pre.dtype)[dead] - pre).relu()
        norms = torch.linalg.vector_norm(self.W_dec[dead], dim=1)
        return (missing @ norms).mean()
