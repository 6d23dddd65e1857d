"""Matching pursuit, differentiably."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern.engine.arguments import check_matrix
from synthkern.sparse import SparseActivations


def matching_pursuit(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
) -> SparseActivations:
    """What every sample chooses, with gradients of inputs [B, D] and vectors [M, D].

    A choice's value is the product of its vector with what earlier choices left, and gradients
    flow through that; which vectors are chosen has none. See :func:`synthkern.engine.pursue`.
    """
    # Before torch.autocast, which has words of its own for the meta device.
    check_matrix("inputs", inputs, columns="D")
    # Small differences decide which vector comes next: autocast would blur them.
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        choices = engine.pursue(
            inputs,
            vectors,
            residual_threshold=residual_threshold,
            iterations=iterations,
            stop_on_repeat=stop_on_repeat,
        )
    values: torch.Tensor = _Pursuit.apply(  # type: ignore[no-untyped-call]
        inputs, vectors, choices
    )
    return choices.with_values(values)


class _Pursuit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, vectors: torch.Tensor, choices: SparseActivations
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, vectors)
        ctx.choices = choices
        return choices.values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, vectors = ctx.saved_tensors
        grads = engine.pursue_grad(inputs, vectors, ctx.choices, grad)
        return *(found.to(inputs.dtype) for found in grads), None
