"""Features that are circles, as a plan has them: which they are, and what their phases follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from synthkern.plan.by_value import PickledByValue
from synthkern.plan.forest import Forest
from synthkern.world.manifolds import ManifoldConfig


@dataclass(frozen=True, eq=False)
class Manifolds(PickledByValue):
    """M manifolds, products of k circles each, over 2k successive features.

    Attributes:
        leader: [M] int32, the first feature of each, ascending.
        dimension: k.
        concentration: r in [0, 1), the mean resultant length of each phase.
        is_leader: [N] uint8, 1 at the leaders.
    """

    leader: torch.Tensor
    dimension: int
    concentration: float
    is_leader: torch.Tensor

    @property
    def width(self) -> int:
        """Number of features of a manifold, 2k."""
        return 2 * self.dimension

    def members(self) -> torch.Tensor:
        """The features of each manifold: [M, 2k] int64."""
        own = torch.arange(self.width, device=self.leader.device)
        return self.leader.long()[:, None] + own

    def partners(self) -> torch.Tensor:
        """All features of manifolds but the leaders: [M (2k - 1)] int64."""
        return self.members()[:, 1:].flatten()

    def is_member(self) -> torch.Tensor:
        """Whether each feature is of a manifold: bool [N]."""
        found = torch.zeros(self.is_leader.numel(), dtype=torch.bool, device=self.leader.device)
        found[self.members().flatten()] = True
        return found

    def leader_of(self) -> torch.Tensor:
        """Each feature's manifold's leader, itself where it is in none: [N] int64."""
        of = torch.arange(self.is_leader.numel(), device=self.leader.device)
        members = self.members()
        of[members] = members[:, :1].expand_as(members)
        return of

    def to(self, device: torch.device | str) -> Manifolds:
        """The same with every array on ``device``."""
        return replace(self, leader=self.leader.to(device), is_leader=self.is_leader.to(device))


def compile_manifolds(
    config: ManifoldConfig | Manifolds | None, num_features: int, forests: Sequence[Forest] = ()
) -> Manifolds | None:
    """The manifolds of a world of ``num_features`` features, None where there are none; those that
    are compiled as they are.

    Raises:
        ValueError: for leaders that do not fit, features of two manifolds, a partner that stands in
            a tree, or more manifolds than there is room for.
    """
    if config is None or isinstance(config, Manifolds):
        return config
    width = 2 * config.dimension
    in_tree = torch.zeros(num_features, dtype=torch.bool, device="cpu")
    for forest in forests:
        in_tree[forest.feature.long().cpu()] = True
    if config.leaders is None:
        assert config.count is not None
        leader = _spread(config.count, width, in_tree)
    else:
        leader = torch.tensor(sorted(config.leaders), dtype=torch.int32, device="cpu")
    is_leader = torch.zeros(num_features, dtype=torch.uint8, device="cpu")
    last = int(leader[-1]) + width - 1
    if last >= num_features:
        raise ValueError(
            f"manifolds.leaders must be at most num_features - {width} = {num_features - width}, "
            f"as a manifold is {width} successive features, got {int(leader[-1])}"
        )
    is_leader[leader.long()] = 1
    manifolds = Manifolds(leader, config.dimension, config.concentration, is_leader)
    near = (leader.diff() < width).nonzero()
    if near.numel():
        a, b = leader[int(near[0])].item(), leader[int(near[0]) + 1].item()
        raise ValueError(
            f"manifolds.leaders must be {width} apart or more, as a manifold is so many "
            f"successive features, got {a} and {b}"
        )
    partners = manifolds.partners()
    inside = partners[in_tree[partners]]
    if inside.numel():
        partner = int(inside[0])
        raise ValueError(
            f"manifolds must have only their leaders in trees, got feature {partner} of the "
            f"manifold of {int(manifolds.leader_of()[partner])} in one"
        )
    return manifolds


def _spread(count: int, width: int, in_tree: torch.Tensor) -> torch.Tensor:
    """Leaders [count] evenly over the places where ``width`` successive features are in no tree."""
    edges = torch.nn.functional.pad((~in_tree).int(), (1, 1)).diff()
    begins, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
    parts = [
        torch.arange(int(begin), max(int(begin), int(end) - width + 1), width)
        for begin, end in zip(begins, ends, strict=True)
    ]
    places = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
    if len(places) < count:
        raise ValueError(
            f"manifolds.count must be at most {len(places)}, the number of times that {width} "
            f"successive features outside of trees fit into the world, got {count}"
        )
    nth = torch.arange(count, device="cpu")
    return places[(2 * nth + 1) * len(places) // (2 * count)].int()
