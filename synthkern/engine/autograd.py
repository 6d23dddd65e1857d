"""CSR activations through a dictionary, differentiably; rows whose gradients are added to its."""

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
    return gather_entries_and_vectors(activations, vectors, bias, mode=mode)[0]


def gather_entries_and_vectors(
    activations: SparseActivations,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    *,
    mode: engine.GatherMode = "exact",
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same, and the vectors again, for :func:`rows_of`: gradients of rows that are taken from
    these are added to the gather's own; None where it has none.
    """
    out, same = _Gather.apply(  # type: ignore[no-untyped-call]
        activations.values, vectors, bias, activations, mode
    )
    return out, same if torch.is_grad_enabled() else None


def rows_of(vectors: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows [L, D] of vectors [N, D], which a function gave that calls :func:`with_rows`.

    Indexing's own gradient is [N, D] again, filled with zeros and then added to the other one: of
    4,096 x 768 numbers 1.7 ms.

    Args:
        places: [L], no one twice.
    """
    rows: torch.Tensor = _Rows.apply(vectors, places)  # type: ignore[no-untyped-call]
    return rows


def with_rows(grad: torch.Tensor, grad_rows: torch.Tensor | None) -> torch.Tensor:
    """A gradient [N, D] that nothing else has, with that of the vectors' rows added in place."""
    if grad_rows is None:
        return grad
    if not grad_rows.is_sparse:
        return grad + grad_rows
    return grad.index_add_(0, grad_rows._indices()[0], grad_rows._values().to(grad.dtype))


class _Rows(torch.autograd.Function):
    """Rows, whose gradient is sparse where it is not to be differentiated again."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(places)
        ctx.shape = vectors.shape
        return vectors.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (places,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return grad.new_zeros(ctx.shape).index_add(0, places, grad), None
        where = places.unsqueeze(0)
        return torch.sparse_coo_tensor(where, grad, ctx.shape, check_invariants=False), None


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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(values, vectors, activations.offsets, activations.indices)
        ctx.set_materialize_grads(False)
        return engine.gather(activations, vectors, bias, mode=mode), vectors.view_as(vectors)

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor | None, grad_rows: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        values, vectors, offsets, indices = ctx.saved_tensors
        if grad is None:
            return None, grad_rows if grad_rows is None else grad_rows.to_dense(), None, None, None
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
                if grad_rows is not None:
                    grad_vectors = grad_vectors + grad_rows
            return grad_values, grad_vectors, grad.sum(dim=0) if needs_bias else None, None, None
        if needs_values:
            grad_values = engine.gather_grad_values(activations, vectors, grad).to(values.dtype)
        if needs_vectors:
            grad_vectors = engine.gather_grad_vectors(activations, grad).to(vectors.dtype)
            grad_vectors = with_rows(grad_vectors, grad_rows)
        return grad_values, grad_vectors, grad.sum(dim=0) if needs_bias else None, None, None
