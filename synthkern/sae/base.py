"""What every sparse autoencoder has: parameters, the dense way through it, the sum of losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from synthkern._checks import as_dtype, check_tensor
from synthkern.sae.config import TrainCoefficientConfig, TrainingSAEConfig
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sparse import SparseActivations


class TrainingSAE(nn.Module, ABC):
    """A sparse autoencoder in training (Bricken et al. 2023, "Towards Monosemanticity").

    An architecture says how it encodes and which losses it has besides the reconstruction's;
    this dense way through it then works. One that knows which few latents are active overrides
    :meth:`training_forward_pass` with sparse steps.

    Args:
        cfg: the architecture's config. Weights come from torch's global generator.

    Attributes:
        W_enc: parameter [D, M], laid out in memory as [M, D]: a latent's gradient is a row.
        W_dec: parameter [M, D].
        b_enc: parameter [M], where the architecture has one.
        b_dec: parameter [D].
    """

    config_class: ClassVar[type[TrainingSAEConfig]]

    cfg: TrainingSAEConfig

    W_enc: torch.Tensor
    W_dec: nn.Parameter
    b_enc: nn.Parameter
    b_dec: nn.Parameter

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        if not isinstance(cfg, self.config_class):
            raise TypeError(f"cfg must be a {self.config_class.__name__}, got {cfg!r}")
        self.cfg = cfg
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """The decoder, and the encoder that it is transposed; biases are zero."""
        self.draw_decoder()
        rows = self.W_dec.detach()
        self.W_enc = nn.Parameter(rows.clone().T)
        self.b_enc = nn.Parameter(rows.new_zeros(self.cfg.d_sae))

    def draw_decoder(self) -> None:
        """Rows that are Kaiming uniform, then of the config's norm, and a bias of zeros."""
        dtype = as_dtype("dtype", self.cfg.dtype)
        rows = torch.empty(self.cfg.d_sae, self.cfg.d_in, dtype=dtype, device=self.cfg.device)
        nn.init.kaiming_uniform_(rows)
        if self.cfg.decoder_init_norm is not None:
            rows /= torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            rows *= self.cfg.decoder_init_norm
        self.W_dec = nn.Parameter(rows)
        self.b_dec = nn.Parameter(rows.new_zeros(self.cfg.d_in))

    @abstractmethod
    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and pre-activations of the latents, both [..., M], of inputs [..., D]."""

    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: torch.Tensor,
        hidden_pre: torch.Tensor,
        sae_out: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses besides the reconstruction's, by name; none here."""
        return {}

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """Coefficients that a step's input must bring, by name; none here."""
        return {}

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the latents [..., M] of inputs [..., D]."""
        return self.encode_with_hidden_pre(x)[0]

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of activations [..., M]."""
        return feature_acts @ self.W_dec + self.b_dec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstructions of inputs [..., D]."""
        return self.decode(self.encode(x))

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch and what they were computed from."""
        feature_acts, hidden_pre = self.encode_with_hidden_pre(step_input.sae_in)
        sae_out = self.decode(feature_acts)
        losses = {"mse_loss": reconstruction_loss(sae_out, step_input.sae_in)}
        losses |= self.calculate_aux_loss(step_input, feature_acts, hidden_pre, sae_out)
        return TrainStepOutput(
            sae_in=step_input.sae_in,
            sae_out=sae_out,
            latents=feature_acts,
            loss=total(losses),
            losses=losses,
            pre=hidden_pre,
        )

    @property
    def input_bias(self) -> nn.Parameter | None:
        """What is subtracted from the input, [D]."""
        return self.b_dec if self.cfg.apply_b_dec_to_input else None

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """``(x - b_dec) @ W_enc + b_enc``, [..., M] of [..., D]."""
        return nn.functional.linear(self.centred(x), self.W_enc.T, self.b_enc)

    def centred(self, x: torch.Tensor) -> torch.Tensor:
        """What the encoder sees of inputs [..., D], in the parameters' dtype."""
        check_width("x", x, self.cfg.d_in)
        x = x.to(self.W_dec.dtype)
        return x if self.input_bias is None else x - self.input_bias


class EntriesTrainingSAE(TrainingSAE):
    """One that finds its few active latents as entries; the dense ones are made of these."""

    @abstractmethod
    def encode_entries(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the latents [..., M] of inputs [..., D]."""
        check_width("x", x, self.cfg.d_in)
        entries = self.encode_entries(x.reshape(-1, self.cfg.d_in))
        return entries.to_dense(self.W_dec.dtype).reshape(*x.shape[:-1], self.cfg.d_sae)


def check_width(name: str, value: torch.Tensor, width: int) -> None:
    """Raise unless ``value`` is a tensor [..., width]."""
    check_tensor(name, value)
    if value.shape[-1:] != (width,):
        raise ValueError(f"{name} must have shape [..., {width}], got {list(value.shape)}")


def reconstruction_loss(sae_out: torch.Tensor, sae_in: torch.Tensor) -> torch.Tensor:
    """Squared distance, mean over the samples: [..., B, D] gives [...]."""
    return (sae_out - sae_in).square().sum(dim=-1).mean(dim=-1)


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of the losses, in their order."""
    return torch.stack(list(losses.values())).sum()
