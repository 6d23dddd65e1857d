"""Counts of what fires."""

from __future__ import annotations

import torch

from synthkern.engine.backend import Counts
from synthkern.sparse import SparseActivations


def count_fires(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor, /
) -> Counts:
    """Counts [M] of the latents' firings, of their features', and of both at once."""
    n, m = features.num_features, len(matched)
    wanted = latents.row_indices() * n + matched[latents.indices.long()]
    hit = torch.isin(wanted, features.row_indices() * n + features.indices)
    return Counts(
        torch.bincount(latents.indices, minlength=m).cpu(),
        torch.bincount(latents.indices[hit], minlength=m).cpu(),
        torch.bincount(features.indices, minlength=n)[matched].cpu(),
    )
