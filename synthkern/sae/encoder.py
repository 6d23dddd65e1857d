"""The encoder: all pre-activations, or those of the chosen latents alone."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern.engine import product
from synthkern.engine.autograd import with_rows
from synthkern.sparse import SparseActivations


def encoder(
    x: torch.Tensor, W_enc: torch.Tensor, b_enc: torch.Tensor | None, b_dec: torch.Tensor | None
) -> torch.Tensor:
    """``(x - b_dec) @ W_enc + b_enc``, [B, M], whose backward pass has one product less.

    The gradient of b_dec needs only sums over the samples, so that where x has none, no product
    goes back to it.
    """
    pre: torch.Tensor = _Encoder.apply(x, W_enc, b_enc, b_dec)  # type: ignore[no-untyped-call]
    return pre


def encoder_entries(
    x: torch.Tensor,
    W_enc: torch.Tensor,
    b_enc: torch.Tensor | None,
    b_dec: torch.Tensor | None,
    chosen: SparseActivations,
) -> SparseActivations:
    """Entries of ``(x - b_dec) @ W_enc + b_enc`` whose values are known, with their gradients.

    The values are those of ``chosen``, which the dense product gave; gradients of x, W_enc, b_enc
    and b_dec follow from them alone.

    Args:
        x: [B, D].
        W_enc: [D, M]; laid out in memory as [M, D], so that its gradient is made of rows.
        b_enc: [M] or None.
        b_dec: [D] or None.
        chosen: [B, M], the pre-activations of the latents that count.
    """
    return encoder_entries_and_rows(x, W_enc, b_enc, b_dec, chosen)[0]


def encoder_entries_and_rows(
    x: torch.Tensor,
    W_enc: torch.Tensor,
    b_enc: torch.Tensor | None,
    b_dec: torch.Tensor | None,
    chosen: SparseActivations,
) -> tuple[SparseActivations, torch.Tensor | None]:
    """The same, and the rows [M, D] of ``W_enc.T``, for :func:`synthkern.engine.autograd.rows_of`:
    gradients of those that are taken are added to the entries' own; None where they have none.
    """
    values, rows = _EncoderEntries.apply(  # type: ignore[no-untyped-call]
        x, W_enc, b_enc, b_dec, chosen
    )
    return chosen.with_values(values), rows if torch.is_grad_enabled() else None


def entries_of(pre: torch.Tensor, chosen: SparseActivations) -> SparseActivations:
    """The pre-activations [B, M] at the places of ``chosen``, with their gradients.

    For encoders that are not one product, of which :func:`encoder_entries` knows nothing.
    """
    values = pre[chosen.row_indices(), chosen.indices.long()]
    return chosen.with_values(values.to(chosen.dtype))


class _Encoder(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        W_enc: torch.Tensor,
        b_enc: torch.Tensor | None,
        b_dec: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, W_enc, b_dec)
        return product.linear(x if b_dec is None else x - b_dec, W_enc.T, b_enc)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, W_enc, b_dec = ctx.saved_tensors
        needs_x, needs_weights, needs_b_enc, needs_b_dec = ctx.needs_input_grad
        # Under autocast the gradient has fewer digits than what it is of.
        rows = W_enc.T.to(grad.dtype)
        grad_W_enc = by_latent = None
        if needs_weights:
            centred = x if b_dec is None else x - b_dec
            by_row = product.matmul(grad.T, centred.to(grad.dtype))
            grad_W_enc = by_row.to(W_enc.dtype).T
        if needs_b_enc or needs_b_dec:
            by_latent = grad.sum(dim=0)
        grad_b_dec = -(by_latent @ rows) if needs_b_dec and by_latent is not None else None
        return (
            product.matmul(grad, rows).to(x.dtype) if needs_x else None,
            grad_W_enc,
            by_latent.to(W_enc.dtype) if needs_b_enc and by_latent is not None else None,
            None if grad_b_dec is None else grad_b_dec.to(W_enc.dtype),
        )


class _EncoderEntries(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        W_enc: torch.Tensor,
        b_enc: torch.Tensor | None,
        b_dec: torch.Tensor | None,
        chosen: SparseActivations,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x, W_enc, b_dec, chosen.offsets, chosen.indices)
        ctx.set_materialize_grads(False)
        return chosen.values.detach(), W_enc.T

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor | None, grad_rows: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        x, W_enc, b_dec, offsets, indices = ctx.saved_tensors
        if grad is None:
            alone = None if grad_rows is None else grad_rows.to_dense().T
            return None, alone, None, None, None
        entries = SparseActivations(offsets, indices, grad, W_enc.shape[1], validate=False)
        needs_x, needs_weights, needs_b_enc, needs_b_dec = ctx.needs_input_grad[:4]
        rows = W_enc.T
        grad_x = grad_W_enc = by_latent = grad_b_dec = None
        if needs_x:
            grad_x = engine.gather(entries, rows, rows.new_zeros(rows.shape[1]))
        if needs_weights:
            centred = x if b_dec is None else x - b_dec
            by_row = engine.gather_grad_vectors(entries, centred.to(grad.dtype)).to(W_enc.dtype)
            grad_W_enc = with_rows(by_row, grad_rows).T
        if needs_b_enc or needs_b_dec:
            by_latent = grad.new_zeros(W_enc.shape[1]).index_add_(0, indices, grad)
            by_latent = by_latent.to(W_enc.dtype)
        if needs_b_dec and by_latent is not None:
            grad_b_dec = -(by_latent @ rows)
        return grad_x, grad_W_enc, by_latent if needs_b_enc else None, grad_b_dec, None
