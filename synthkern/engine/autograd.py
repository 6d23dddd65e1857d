"""CSR activations through a dictionary, differentiably."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern.sparse import SparseActivations


def gather_entries(
    activations: SparseActivations,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    *,
    mode: engine.GatherMode = "exact",
) -> torch.Tensor:
    """``activations @ vectors + bias``, with gradients of the values, vectors and bias.

    Args:
        activations: [B, N]; their values may need a gradient.
        vectors: [N, D].
        bias: [D].
        mode: see :func:`synthkern.engine.gather`.
    """
    out: torch.Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
        activations.values, vectors, bias, activations, mode
    )
    return out


class _Gather(torch.autograd.Function):
    """Hidden activations of CSR entries; gradients of values, vectors and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        activations: SparseActivations,
        mode: engine.GatherMode,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, vectors, activations.offsets, activations.indices)
        return engine.gather(activations, vectors, bias, mode=mode)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, vectors, offsets, indices = ctx.saved_tensors
        activations = SparseActivations(offsets, indices, values, vectors.shape[0], validate=False)
        needs_values, needs_vectors, needs_bias = ctx.needs_input_grad[:3]
        grad_values = grad_vectors = None
        if torch.is_grad_enabled():
            # To be differentiated again, which the engine's kernels are not.
            rows, columns = activations.row_indices(), indices.long()
            at_entries = grad[rows]
            if needs_values:
                grad_values = (at_entries * vectors[columns]).sum(dim=1).to(values.dtype)
            if needs_vectors:
                parts = values.unsqueeze(1).to(grad.dtype) * at_entries
                grad_vectors = torch.zeros_like(vectors, dtype=grad.dtype)
                grad_vectors = grad_vectors.index_add(0, columns, parts).to(vectors.dtype)
            return grad_values, grad_vectors, grad.sum(dim=0) if needs_bias else None, None, None
        if needs_values:
            grad_values = engine.gather_grad_values(activations, vectors, grad).to(values.dtype)
        if needs_vectors:
            grad_vectors = engine.gather_grad_vectors(activations, grad).to(vectors.dtype)
        return grad_values, grad_vectors, grad.sum(dim=0) if needs_bias else None, None, None
