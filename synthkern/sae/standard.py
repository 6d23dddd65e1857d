"""The standard SAE: a ReLU and an L1 penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from synthkern._checks import as_float, as_int
from synthkern.sae.active import active
from synthkern.sae.base import TrainingSAE, reconstruction_loss, total
from synthkern.sae.config import TARGET_L0, TrainCoefficientConfig, TrainingSAEConfig, coefficient
from synthkern.sae.step import TrainStepInput, TrainStepOutput, target_of
from synthkern.sae.threshold import ThresholdTrainingSAE
from synthkern.world.registry import named


@dataclass
class StandardTrainingSAEConfig(TrainingSAEConfig):
    """A standard SAE; see :class:`StandardTrainingSAE`.

    Attributes:
        l1_coefficient: of the sparsity penalty.
        lp_norm: which norm of a sample's activations is the penalty; above 0.
        l1_warm_up_steps: in which the coefficient grows from 0.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16, l1_coefficient=0.5)
        >>> cfg.architecture(), cfg.l1_coefficient
        ('standard', 0.5)
    """

    l0_setting = TARGET_L0
    training_only = TrainingSAEConfig.training_only | {
        "l1_coefficient",
        "lp_norm",
        "l1_warm_up_steps",
    }

    l1_coefficient: float = 1.0
    lp_norm: float = 1.0
    l1_warm_up_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_float("l1_coefficient", self.l1_coefficient, low=0)
        as_float("lp_norm", self.lp_norm, low=0, open_low=True)
        as_int("l1_warm_up_steps", self.l1_warm_up_steps, low=0)

    architecture = named("standard")


class StandardTrainingSAE(ThresholdTrainingSAE):
    """A ReLU SAE with an L1 penalty (Bricken et al. 2023, "Towards Monosemanticity").

    An activation counts in the penalty times the norm of its decoder row, so that shrinking one
    and growing the other gains nothing (Conerly et al. 2024, "Update on how we train SAEs").

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16)
        >>> sae = synthetic.StandardTrainingSAE(cfg)
        >>> step = synthetic.TrainStepInput(torch.randn(10, 8), coefficients={"l1": 0.1})
        >>> sorted(sae.training_forward_pass(step).losses)
        ['l1_loss', 'mse_loss']
    """

    config_class = StandardTrainingSAEConfig
    logged_vectors = (("b_e", "b_enc"),)
    latent_vectors = ("b_enc",)

    cfg: StandardTrainingSAEConfig

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """The coefficient "l1"."""
        return {"l1": coefficient(self.cfg.l1_coefficient, self.cfg.l1_warm_up_steps)}

    @property
    def thresholds(self) -> torch.Tensor:
        """Zeros [M]."""
        return torch.zeros_like(self.b_enc)

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and pre-activations, both [..., M], of inputs [..., D]."""
        pre = self.pre_activations(x)
        return pre.relu(), pre

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch [B, D]: of the reconstruction, and the penalty."""
        return l1_step(self, step_input, self.cfg.lp_norm)


def l1_step(
    sae: TrainingSAE,
    step_input: TrainStepInput,
    p: float = 1.0,
    scale: torch.Tensor | None = None,
) -> TrainStepOutput:
    """A step of a ReLU SAE whose activations are penalised by the decoder's norms.

    Args:
        sae: whose weights these are.
        step_input: with the coefficient "l1".
        p: which norm of a sample's activations is the penalty.
        scale: [M] that the latents of the output are multiplied by, or None.
    """
    sae_in = step_input.sae_in
    found = active(sae, sae_in, sae.b_enc, torch.zeros_like(sae.b_enc), may_be_sparse=p == 1)
    acts = found.values.relu()
    sae_out = found.decode(acts, sae.W_dec, sae.b_dec)
    norms = sae.row_norms()
    if p == 1:
        sums = found.latent_sums(acts)
        penalty = sums @ norms.to(sums.dtype) / len(sae_in)
    else:
        penalty = torch.linalg.vector_norm(acts * norms, ord=p, dim=1).mean()
    losses = {
        "mse_loss": reconstruction_loss(sae_out, target_of(step_input)),
        "l1_loss": step_input.coefficients["l1"] * penalty,
    }
    given = acts if scale is None else acts.detach() * found.of_latents(scale.detach())
    return TrainStepOutput(
        sae_in=sae_in,
        sae_out=sae_out,
        latents=found.latents(given),
        loss=total(losses),
        losses=losses,
        pre=found.pre,
        scale=scale,
    )
