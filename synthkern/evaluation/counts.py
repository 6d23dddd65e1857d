"""How often latents fire, and how often together with the feature that each is matched with."""

from __future__ import annotations

from typing import NamedTuple

import torch

from synthkern import _core, engine
from synthkern.engine.cpu.arrays import view
from synthkern.sparse import SparseActivations


class Counts(NamedTuple):
    """Numbers of samples, int64 [M] each, on the CPU."""

    fires: torch.Tensor
    """in which the latent fires"""
    hits: torch.Tensor
    """in which both it and its feature fire"""
    feature_fires: torch.Tensor
    """in which its feature fires"""


def count_fires(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor
) -> Counts:
    """Counts from the entries alone: work and memory follow what fires.

    Args:
        latents: B samples of M latents; each entry is a firing.
        features: the same samples' N features.
        matched: [M] int64, the feature of each latent.
    """
    features = features.to(latents.device)
    if engine.backend_for(latents.device).name == "cpu":
        return _by_core(latents, features, matched)
    return _by_torch(latents, features, matched.to(latents.device))


def _by_core(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor
) -> Counts:
    def zeros(size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.int64, device="cpu")

    fires, hits, feature_fires = map(zeros, (len(matched), len(matched), features.num_features))
    _core.count_fires(
        view(latents.offsets),
        view(latents.indices),
        view(features.offsets),
        view(features.indices),
        view(matched.int()),
        view(fires),
        view(hits),
        view(feature_fires),
        torch.get_num_threads(),
    )
    return Counts(fires, hits, feature_fires[matched])


def _by_torch(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor
) -> Counts:
    n, m = features.num_features, len(matched)
    wanted = latents.row_indices() * n + matched[latents.indices.long()]
    hit = torch.isin(wanted, features.row_indices() * n + features.indices)
    return Counts(
        torch.bincount(latents.indices, minlength=m).cpu(),
        torch.bincount(latents.indices[hit], minlength=m).cpu(),
        torch.bincount(features.indices, minlength=n)[matched].cpu(),
    )
