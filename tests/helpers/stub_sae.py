"""SAEs of a few lines, as the field's interface has them."""

from __future__ import annotations

import torch
from torch import nn


class StubSAE(nn.Module):
    """Latents are what is left of x @ W_enc outside [-threshold, threshold], so that some are
    negative; the sums are made entry by entry, so that the batch size changes no bit.
    """

    def __init__(self, W_enc: torch.Tensor, W_dec: torch.Tensor, threshold: float = 0.5) -> None:
        super().__init__()
        self.W_enc = nn.Parameter(W_enc.clone())
        self.W_dec = nn.Parameter(W_dec.clone())
        self.threshold = threshold
        self.batches: list[int] = []
        self.modes: set[bool] = set()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        self.modes.add(self.training)
        pre = (x[:, :, None] * self.W_enc).sum(dim=1)
        return nn.functional.hardshrink(pre, self.threshold)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        return (feature_acts[:, :, None] * self.W_dec).sum(dim=1)


def random_sae(num_latents: int, hidden_dim: int, seed: int = 0, threshold: float = 0.5) -> StubSAE:
    """Random weights; the decoder's rows are no encoder's columns."""
    generator = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(hidden_dim, num_latents, generator=generator) / hidden_dim**0.5
    W_dec = torch.randn(num_latents, hidden_dim, generator=generator) / hidden_dim**0.5
    return StubSAE(W_enc, W_dec, threshold)
