"""Magnitudes of manifolds as points of their circles."""

from __future__ import annotations

import torch

from synthkern._checks import check_held
from synthkern.engine.reference.sequence import held_features
from synthkern.plan import Plan
from synthkern.plan.manifolds import Manifolds
from synthkern.stream.circle import circle_point, part_of
from synthkern.stream.words import phase_words


def leader_indices(plan: Plan, index: torch.Tensor, seed: int) -> torch.Tensor:
    """The samples whose words leaders have, of samples [B, 2]: these, or held ones [B, M, 2]."""
    if plan.sequence is None or plan.manifolds is None:
        return index
    return held_features(plan.sequence, index, seed)[:, plan.manifolds.leader.long()]


def apply_manifolds(
    manifolds: Manifolds, activations: torch.Tensor, index: torch.Tensor, seed: int
) -> torch.Tensor:
    """Activations [B, N] with the entries of every manifold, whose leaders have magnitudes.

    Args:
        manifolds: whose leaders are above 0 where they are active.
        activations: [B, N], floating point; what the features of manifolds but the leaders have
            is replaced.
        index: [B, 2] of the samples, or [B, M, 2] of those whose words the leaders hold.
        seed: of the stream.
    """
    magnitude = activations[:, manifolds.leader.long()]
    check_held("activations", magnitude, torch.float32)
    words = phase_words(manifolds.leader, manifolds.dimension, index, seed)
    values = _points(manifolds, magnitude.to(torch.float32), words)
    out = activations.clone()
    out[:, manifolds.members().flatten()] = values.flatten(1).to(out.dtype)
    return out


def _points(manifolds: Manifolds, magnitude: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Entries [..., 2k] of magnitudes [...] with words [..., k]."""
    if manifolds.dimension > 1:
        magnitude = magnitude * part_of(manifolds.dimension)
    points = torch.stack(circle_point(words, manifolds.concentration), dim=-1)
    radius = magnitude[..., None, None]
    return torch.where(radius > 0, radius * points, 0.0).flatten(-2)
