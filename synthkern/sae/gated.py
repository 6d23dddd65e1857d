"""Gated: one path says which latents are active, another how much."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from synthkern._checks import as_float, as_int
from synthkern.engine import product
from synthkern.sae.active import active
from synthkern.sae.base import reconstruction_loss, total
from synthkern.sae.config import TARGET_L0, TrainCoefficientConfig, TrainingSAEConfig, coefficient
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.threshold import ThresholdTrainingSAE
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named


@dataclass
class GatedTrainingSAEConfig(TrainingSAEConfig):
    """A gated SAE; see :class:`GatedTrainingSAE`.

    Attributes:
        l1_coefficient: of the penalty of the gates.
        l1_warm_up_steps: in which the coefficient grows from 0.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.GatedTrainingSAEConfig(d_in=8, d_sae=16, l1_coefficient=0.5)
        >>> synthetic.make_sae(cfg).get_coefficients()
        {'l1': TrainCoefficientConfig(value=0.5, warm_up_steps=0)}
    """

    l0_setting = TARGET_L0
    training_only = TrainingSAEConfig.training_only | {
        "l1_coefficient",
        "l1_warm_up_steps",
    }

    l1_coefficient: float = 1.0
    l1_warm_up_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_float("l1_coefficient", self.l1_coefficient, low=0)
        as_int("l1_warm_up_steps", self.l1_warm_up_steps, low=0)

    architecture = named("gated")


class GatedTrainingSAE(ThresholdTrainingSAE):
    """A gated SAE (Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated SAEs").

    The paths share the encoder: a gate is open where ``h + b_gate > 0`` and the magnitude is
    ``relu(h * exp(r_mag) + b_mag)``, so that one product serves both. The penalty and an auxiliary
    reconstruction, through the decoder itself, train the gates.

    Attributes:
        b_gate: parameter [M].
        r_mag: parameter [M].
        b_mag: parameter [M].

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.GatedTrainingSAEConfig(d_in=8, d_sae=16)
        >>> sae = synthetic.GatedTrainingSAE(cfg)
        >>> sae.encode(torch.randn(10, 8)).shape
        torch.Size([10, 16])
        >>> sorted(name for name, _ in sae.named_parameters())
        ['W_dec', 'W_enc', 'b_dec', 'b_gate', 'b_mag', 'r_mag']
    """

    config_class = GatedTrainingSAEConfig
    latent_vectors = ("b_gate", "b_mag")
    logged_vectors = (("b_gate", "b_gate"), ("b_mag", "b_mag"))

    cfg: GatedTrainingSAEConfig
    b_gate: nn.Parameter
    r_mag: nn.Parameter
    b_mag: nn.Parameter

    def initialize_weights(self) -> None:
        """The base's weights, with three vectors of zeros in place of the encoder's bias."""
        super().initialize_weights()
        zeros = self.b_enc.data
        del self.b_enc
        self.b_gate = nn.Parameter(zeros.clone())
        self.r_mag = nn.Parameter(zeros.clone())
        self.b_mag = nn.Parameter(zeros)

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """The coefficient "l1"."""
        return {"l1": coefficient(self.cfg.l1_coefficient, self.cfg.l1_warm_up_steps)}

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """``(x - b_dec) @ W_enc``, what both paths share: [..., M] of [..., D]."""
        return product.linear(self.centred(x), self.W_enc.T)

    @property
    def has_own_encoder(self) -> bool:
        """Whether a subclass computes :meth:`pre_activations` in a way of its own."""
        return self._encodes_unlike(GatedTrainingSAE)

    @property
    def thresholds(self) -> torch.Tensor:
        """[M], above which gates are open."""
        return -self.b_gate

    @property
    def encoder_bias(self) -> None:
        """None: each path adds its own."""
        return None

    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""
        shared = super().encode_sparse(x)
        scale = self.r_mag.exp().index_select(0, shared.indices)
        shift = self.b_mag.index_select(0, shared.indices)
        found = shared.with_values((shared.values * scale + shift).relu())
        return found if bool(found.values.all()) else found.drop_zeros()

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and the magnitudes before their ReLU, both [..., M], of inputs [..., D]."""
        shared = self.pre_activations(x)
        magnitudes = shared * self.r_mag.exp() + self.b_mag
        return magnitudes.relu() * (shared + self.b_gate > 0), magnitudes

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch [B, D]: two reconstructions and the gates' penalty."""
        sae_in = step_input.sae_in
        found = active(self, sae_in, self.encoder_bias, self.thresholds)
        gates = (found.values + found.of_latents(self.b_gate)).relu()
        scale = self.r_mag.exp()
        magnitudes = found.values * found.of_latents(scale) + found.of_latents(self.b_mag)
        acts = magnitudes.relu() * (gates > 0)
        sae_out = found.decode(acts, self.W_dec, self.b_dec)
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        sums = found.latent_sums(gates)
        penalty = sums @ norms.to(sums.dtype) / len(sae_in)
        by_gates = found.decode(gates, self.W_dec, self.b_dec)
        losses = {
            "mse_loss": reconstruction_loss(sae_out, sae_in),
            "l1_loss": step_input.coefficients["l1"] * penalty,
            "auxiliary_reconstruction_loss": reconstruction_loss(by_gates, sae_in),
        }
        return TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            latents=found.latents(acts),
            loss=total(losses),
            losses=losses,
            pre=found.pre,
            scale=scale.detach(),
            shift=self.b_mag.detach(),
        )
