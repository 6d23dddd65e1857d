"""JumpReLU and the Heaviside step, with straight-through estimators of their gradients.

Rajamanoharan et al. 2024, "Jumping Ahead", section 3.
"""

from __future__ import annotations

from typing import Any

import torch


def jumprelu(
    x: torch.Tensor, threshold: torch.Tensor, bandwidth: float, ste_to_input: bool
) -> torch.Tensor:
    """x where it exceeds the threshold, else 0; x and threshold have one shape.

    Within half a bandwidth of the threshold the latter's gradient is ``-threshold / bandwidth``,
    and the opposite is added to that of x with ``ste_to_input``.
    """
    out: torch.Tensor = _JumpReLU.apply(  # type: ignore[no-untyped-call]
        x, threshold, bandwidth, ste_to_input
    )
    return out


def heaviside(
    x: torch.Tensor, threshold: torch.Tensor, bandwidth: float, ste_to_input: bool
) -> torch.Tensor:
    """The Heaviside step: 1 where x exceeds the threshold, else 0.

    Its straight-through estimator is ``-1 / bandwidth`` within half a bandwidth.
    """
    out: torch.Tensor = _Heaviside.apply(  # type: ignore[no-untyped-call]
        x, threshold, bandwidth, ste_to_input
    )
    return out


class _StraightThrough(torch.autograd.Function):
    # What torch.func needs: a forward pass without a context, and only tensors' own operations.
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        del output
        x, threshold, ctx.bandwidth, ctx.ste_to_input = inputs
        ctx.save_for_backward(x, threshold)


class _JumpReLU(_StraightThrough):
    @staticmethod
    def forward(
        x: torch.Tensor, threshold: torch.Tensor, bandwidth: float, ste_to_input: bool
    ) -> torch.Tensor:
        return x * (x > threshold)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, threshold = ctx.saved_tensors
        estimate = threshold * _window(x, threshold, ctx.bandwidth) * grad
        grad_x = (x > threshold) * grad
        return grad_x + estimate if ctx.ste_to_input else grad_x, -estimate, None, None


class _Heaviside(_StraightThrough):
    @staticmethod
    def forward(
        x: torch.Tensor, threshold: torch.Tensor, bandwidth: float, ste_to_input: bool
    ) -> torch.Tensor:
        return (x > threshold).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, threshold = ctx.saved_tensors
        estimate = _window(x, threshold, ctx.bandwidth) * grad
        return estimate if ctx.ste_to_input else None, -estimate, None, None


def _window(x: torch.Tensor, threshold: torch.Tensor, bandwidth: float) -> torch.Tensor:
    """1 / bandwidth within half a bandwidth of the threshold, else 0."""
    return ((x - threshold).abs() < bandwidth / 2).to(x.dtype) / bandwidth
