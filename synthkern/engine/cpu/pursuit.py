"""Matching pursuit with the C++ core: one dense product, then correlations are kept up to date."""

from __future__ import annotations

import torch

from synthkern import _core
from synthkern.engine import product, reference
from synthkern.engine.cpu.arrays import entries, view
from synthkern.sparse import SparseActivations

_BLOCKS = 8  # of the Gram matrix on a side; those above the diagonal are copied: 0.56 of the work


def pursue(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
    /,
) -> SparseActivations:
    """What every sample chooses, one after the other."""
    gram = _gram(vectors)
    # Above the square of every first product: where it is finite, so are those. Else the reference
    # chooses NaN first, so that it shows.
    if not bool(torch.isfinite(inputs.square().sum() * gram.diagonal().sum())):
        return reference.BACKEND.pursue(
            inputs, vectors, residual_threshold, iterations, stop_on_repeat
        )
    arrays = _core.pursue(
        view(inputs),
        view(vectors),
        view(gram),
        view(product.matmul(inputs, vectors.T)),
        residual_threshold,
        iterations,
        stop_on_repeat,
        torch.get_num_threads(),
    )
    return entries(arrays, len(vectors))


def pursue_grad(
    inputs: torch.Tensor, vectors: torch.Tensor, choices: SparseActivations, grad: torch.Tensor, /
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the inputs and the vectors."""
    grad_inputs, grad_vectors = _core.pursue_grad(
        view(inputs),
        view(vectors),
        view(choices.offsets),
        view(choices.indices),
        view(choices.values),
        view(grad),
        torch.get_num_threads(),
    )
    return torch.from_numpy(grad_inputs), torch.from_numpy(grad_vectors)


def _gram(vectors: torch.Tensor) -> torch.Tensor:
    """``vectors @ vectors.T``, block by block below the diagonal and mirrored."""
    size = len(vectors)
    gram = vectors.new_empty(size, size)
    step = -(-size // _BLOCKS)
    for begin in range(0, size, step):
        end = min(size, begin + step)
        product.matmul(vectors[begin:end], vectors[:end].T, out=gram[begin:end, :end])
        gram[:begin, begin:end] = gram[begin:end, :begin].T
    return gram
