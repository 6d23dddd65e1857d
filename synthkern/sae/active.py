"""Pre-activations of the latents that count: all of them, or a few in CSR form, the same to use."""

from __future__ import annotations

from typing import Protocol

import torch

from synthkern.engine import product
from synthkern.engine.autograd import gather_entries
from synthkern.engine.pre_activations import PreActivations, can_be_partial, pre_activations
from synthkern.sae.base import TrainingSAE, check_width
from synthkern.sae.encoder import encoder, encoder_entries
from synthkern.sae.normalization import check_trained_here
from synthkern.sparse import SparseActivations

#: The share of latents above their thresholds below which a step is sparse. Time of a sparse step
#: over a dense one at shares of 0.05, 0.1, 0.15, 0.2 and 0.3, two cores, B = 1,024, D = 768,
#: M = 4,096: standard 0.46, 0.61, 0.74, 0.98, 1.48; JumpReLU 0.37, 0.52, 0.67, 0.88, 1.26; gated
#: 0.37, 0.55, 0.76, 0.96, 1.32.
SPARSE_BELOW = 0.18

_ROWS = 16  # every so many samples are looked at for the share


class Active(Protocol):
    """Numbers of the latents that count: ``values`` are the pre-activations.

    Attributes:
        pre: all pre-activations [B, M], without gradients.
        values: those that count, with gradients: [B, M] or [nnz].
    """

    pre: torch.Tensor | PreActivations
    values: torch.Tensor

    def of_latents(self, numbers: torch.Tensor) -> torch.Tensor:
        """A number per latent [M] beside each of the values."""

    def sample_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[B], the sums of each sample's values."""

    def latent_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[M], the sums of each latent's values."""

    def decode(self, values: torch.Tensor, W_dec: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """``values @ W_dec + b``, [B, D]."""

    def latents(self, values: torch.Tensor) -> torch.Tensor | SparseActivations:
        """The values as activations [B, M] to look at."""


class DenseActive:
    """All latents."""

    def __init__(self, values: torch.Tensor) -> None:
        self.pre: torch.Tensor | PreActivations = values.detach()
        self.values = values

    def of_latents(self, numbers: torch.Tensor) -> torch.Tensor:
        """A number per latent beside each of the values."""
        return numbers.expand_as(self.values)

    def sample_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[B], the sums of each sample's values."""
        return values.sum(dim=1)

    def latent_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[M], the sums of each latent's values."""
        return values.sum(dim=0)

    def decode(self, values: torch.Tensor, W_dec: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """``values @ W_dec + b``."""
        return product.addmm(b, values, W_dec)

    def latents(self, values: torch.Tensor) -> torch.Tensor:
        """The values."""
        return values


class SparseActive:
    """The latents of ``entries``; what the others would add to any sum is zero."""

    def __init__(self, pre: PreActivations, entries: SparseActivations) -> None:
        self.pre: torch.Tensor | PreActivations = pre
        self.values = entries.values
        self._entries = entries
        self._indices = entries.indices.long()

    def of_latents(self, numbers: torch.Tensor) -> torch.Tensor:
        """A number per latent beside each of the values."""
        # Indexing's backward pass adds up in no fixed order, and in 15 times the time.
        return numbers.index_select(0, self._indices)

    def sample_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[B], the sums of each sample's values."""
        zeros = values.new_zeros(self._entries.batch_size)
        return zeros.index_add(0, self._entries.row_indices(), values)

    def latent_sums(self, values: torch.Tensor) -> torch.Tensor:
        """[M], the sums of each latent's values."""
        zeros = values.new_zeros(self._entries.num_features)
        return zeros.index_add(0, self._indices, values)

    def decode(self, values: torch.Tensor, W_dec: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """``values @ W_dec + b``."""
        return gather_entries(self._entries.with_values(values), W_dec, b)

    def latents(self, values: torch.Tensor) -> SparseActivations:
        """The values that are not zero, without gradients."""
        return self._entries.with_values(values.detach()).drop_zeros()


def active(
    sae: TrainingSAE,
    x: torch.Tensor,
    b_enc: torch.Tensor | None,
    thresholds: torch.Tensor,
    *,
    may_be_sparse: bool = True,
) -> Active:
    """The pre-activations ``(x - b_dec) @ W_enc + b_enc`` that count: those above their thresholds.

    Args:
        sae: whose weights these are.
        x: [B, D].
        b_enc: [M] or None.
        thresholds: [M]; what is not above has no part in any loss, nor a gradient.
        may_be_sparse: False keeps all, however few are above.
    """
    check_trained_here(sae.cfg)
    check_width("x", x, sae.cfg.d_in)
    if sae.has_own_encoder:
        return DenseActive(sae.pre_activations(x))
    x = x.to(sae.W_dec.dtype)
    thresholds = thresholds.detach()
    parts = x, sae.W_enc, b_enc, sae.input_bias
    if not may_be_sparse:
        return DenseActive(encoder(*parts))
    values = None
    if can_be_partial(x, sae.W_enc.T, b_enc):
        with torch.no_grad():
            centred = x if sae.input_bias is None else x - sae.input_bias
            pre = pre_activations(centred, sae.W_enc.T, b_enc)
    else:
        values = encoder(*parts)
        pre = PreActivations(values)
    if not float((pre.of_every(_ROWS) > thresholds).float().mean()) < SPARSE_BELOW:
        return DenseActive(encoder(*parts) if values is None else values)
    entries = encoder_entries(*parts, pre.above(thresholds))
    return SparseActive(pre, entries)
