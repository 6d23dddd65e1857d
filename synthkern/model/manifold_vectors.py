"""Orthonormal directions for features that are circles."""

from __future__ import annotations

import torch

from synthkern.plan.manifolds import Manifolds


def orthonormal_members(vectors: torch.Tensor, manifolds: Manifolds) -> torch.Tensor:
    """Feature vectors [N, D] in which those of each manifold are orthonormal.

    A leader's keeps its direction; from each of the others what is along those before it is taken
    out, by a QR decomposition in float64.

    Raises:
        ValueError: where D dimensions do not hold so many directions.
    """
    width, dim = manifolds.width, vectors.shape[1]
    if dim < width:
        raise ValueError(
            f"hidden_dim must be at least {width}, so that the {width} directions of a manifold "
            f"can be orthogonal, got {dim}"
        )
    members = manifolds.members().to(vectors.device)
    q, r = torch.linalg.qr(vectors[members].double().mT)  # of columns [M, D, 2k]
    signs = torch.where(r.diagonal(dim1=1, dim2=2) < 0, -1.0, 1.0)
    out = vectors.clone()
    out[members] = (q * signs[:, None]).mT.to(vectors.dtype)
    return out
