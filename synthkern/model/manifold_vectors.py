"""Which features of a world are circles, and orthonormal directions for them."""

from __future__ import annotations

from dataclasses import replace

import torch

from synthkern.model.hierarchy import Hierarchy
from synthkern.plan.manifolds import Manifolds, compile_manifolds
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.manifolds import ManifoldConfig


def place_manifolds(cfg: SyntheticModelConfig, hierarchy: Hierarchy | None) -> Manifolds | None:
    """The manifolds of a config, which the hierarchy alone places: not what a shift forbids, as a
    world and its twin have the same.
    """
    forests = [] if hierarchy is None else [hierarchy.compiled(cfg.num_features)]
    return compile_manifolds(cfg.manifolds, cfg.num_features, forests)


def placed_config(cfg: SyntheticModelConfig, hierarchy: Hierarchy | None) -> ManifoldConfig | None:
    """The same for a generator, whose forests are those of a shift too."""
    if cfg.manifolds is None or cfg.shift is None:
        return cfg.manifolds
    placed = place_manifolds(cfg, hierarchy)
    assert placed is not None
    return replace(cfg.manifolds, count=None, leaders=placed.leader.tolist())


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
