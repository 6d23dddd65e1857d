"""Applying a forest to given activations, a level at a time."""

from __future__ import annotations

import torch

from synthkern._checks import check_finite
from synthkern.plan import Forest
from synthkern.sparse import SparseActivations
from synthkern.stream.words import priority_words, sample_indices


def apply_forest_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> torch.Tensor:
    """Apply a forest to activations [B, N]."""
    check_finite("activations", activations)
    index = sample_indices(start, activations.shape[0], activations.device)
    priority = sortable(*priority_words(forest.feature, index, seed, ordinal))
    return apply_forest(forest, activations, means, priority)


def apply_forest_sparse(
    forest: Forest,
    activations: SparseActivations,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> SparseActivations:
    """Apply a forest to activations in CSR form."""
    dense = activations.to_dense()
    return SparseActivations.from_dense(
        apply_forest_dense(forest, dense, means, seed, start, ordinal)
    )


def sortable(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Two 32-bit words as one int64 that sorts as the unsigned 64-bit number would."""
    return ((high - 2**31) << 32) | low


def apply_forest(
    forest: Forest, activations: torch.Tensor, means: torch.Tensor | None, priority: torch.Tensor
) -> torch.Tensor:
    """Gate and scale activations [B, N] from the top down; one of an exclusive group stays.

    Args:
        forest: K nodes.
        activations: [B, N].
        means: [N] mean magnitudes, needed where the forest scales.
        priority: [B, K] int64, of every node in its exclusive group.
    """
    out = activations.clone()
    for level in forest.levels():
        feature = forest.feature[level].long()
        value = out[:, feature]
        child = (forest.parent[level] >= 0).nonzero().flatten()
        if child.numel():
            parent_feature = forest.feature[forest.parent[level][child].long()].long()
            parent_value = out[:, parent_feature]
            below = value[:, child]
            if means is not None and forest.scales:
                scaled = forest.scaled[level][child].bool()
                # Other parents' means may be 0, and zero stays zero however small a mean is.
                divisor = torch.where(scaled, means[parent_feature].to(value.dtype), 1.0)
                grown = torch.where(scaled & (below != 0), parent_value / divisor, 1.0)
                below = below * grown
            value[:, child] = torch.where(parent_value > 0, below, 0.0)
        group = forest.group[level].long()
        if bool((group >= 0).any()):
            value = _keep_max_priority(value, group, priority[:, level])
        out[:, feature] = value
    return out


def _keep_max_priority(
    value: torch.Tensor, group: torch.Tensor, priority: torch.Tensor
) -> torch.Tensor:
    """Keep of each group's values [B, nodes] above zero the one with the greatest priority."""
    members = (group >= 0).nonzero().flatten()
    _, group = group[members].unique(return_inverse=True)
    inside, priority = value[:, members], priority[:, members]
    where = group.expand_as(inside)
    lowest = torch.full_like(priority[:, : int(group.max()) + 1], torch.iinfo(torch.int64).min)
    active = inside > 0
    contest = torch.where(active, priority, torch.iinfo(torch.int64).min)
    best = lowest.scatter_reduce(1, where, contest, "amax").gather(1, where)
    elected = active & (priority == best)
    place = torch.arange(members.numel(), device=value.device).expand_as(where)
    first = torch.full_like(lowest, members.numel()).scatter_reduce(
        1, where, torch.where(elected, place, members.numel()), "amin"
    )
    wins = elected & (place == first.gather(1, where))
    out = value.clone()
    out[:, members] = torch.where(active & ~wins, 0.0, inside)
    return out
