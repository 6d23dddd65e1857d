"""CSR activations through a feature dictionary with the C++ core."""

from __future__ import annotations

import torch

from synthkern import _core
from synthkern.engine import reference
from synthkern.engine.backend import GatherMode
from synthkern.engine.cpu.arrays import entries, view
from synthkern.sparse import SparseActivations


def compress(activations: torch.Tensor, /) -> SparseActivations:
    """The entries of a dense tensor [B, N] that are not zero."""
    arrays = _core.compress(view(activations), torch.get_num_threads())
    return entries(arrays, activations.shape[1])


def gather(
    activations: SparseActivations,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    /,
    *,
    mode: GatherMode = "exact",
) -> torch.Tensor:
    """Hidden activations [B, D].

    Only "exact" is made for speed: "bfloat16" rounds the dictionary at each call, and "split" is
    the reference's.
    """
    if mode == "split":
        return reference.BACKEND.gather(activations, vectors, bias, mode=mode)
    if mode == "bfloat16":
        vectors = vectors.bfloat16().to(vectors.dtype)
    out = _core.gather(
        view(activations.offsets),
        view(activations.indices),
        view(activations.values.to(vectors.dtype)),
        view(vectors),
        view(bias),
        torch.get_num_threads(),
    )
    return torch.from_numpy(out)


def gather_grad_vectors(activations: SparseActivations, grad: torch.Tensor, /) -> torch.Tensor:
    """Gradient [N, D] of the feature vectors."""
    out = _core.gather_grad_vectors(
        view(activations.offsets),
        view(activations.indices),
        view(activations.values.to(grad.dtype)),
        activations.num_features,
        view(grad),
        torch.get_num_threads(),
    )
    return torch.from_numpy(out)


def gather_grad_values(
    activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor, /
) -> torch.Tensor:
    """Gradient [nnz] of the activations' values."""
    out = _core.gather_grad_values(
        view(activations.offsets),
        view(activations.indices),
        view(activations.values.to(grad.dtype)),
        view(vectors),
        view(grad),
        torch.get_num_threads(),
    )
    return torch.from_numpy(out)
