"""SAEs that are measured as they are, without training."""

from __future__ import annotations

import torch
from torch import nn

from synthkern import SparseActivations, SyntheticModel, engine


class DenseTopK(nn.Module):
    """A TopK SAE with the field's interface: every step on dense tensors.

    Its latents stand for every few features, with noise, so that it detects something.
    """

    def __init__(self, world: SyntheticModel, num_latents: int, k: int) -> None:
        super().__init__()
        self.k = k
        vectors = world.feature_dict.feature_vectors.detach()
        rows = vectors[:: max(1, len(vectors) // num_latents)][:num_latents]
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(rows.shape, generator=generator) / rows.shape[1] ** 0.5
        decoder = nn.functional.normalize(rows + 0.5 * noise, dim=1)
        self.W_dec = nn.Parameter(decoder)
        self.W_enc = nn.Parameter(decoder.T.contiguous())
        self.b_dec = nn.Parameter(world.feature_dict.bias.detach().clone())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        pre = torch.relu((x - self.b_dec) @ self.W_enc)
        values, places = pre.topk(self.k, dim=1)
        return torch.zeros_like(pre).scatter_(1, places, values)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.b_dec, feature_acts, self.W_dec)


class SparseTopK(DenseTopK):
    """The same with a decoder that reads only what is active."""

    def decode_sparse(self, latents: SparseActivations) -> torch.Tensor:
        return engine.gather(latents, self.W_dec.detach(), self.b_dec.detach())
