"""A forest's tables as the kernels that apply it read them, made once for each device."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from synthkern.plan import Forest


@dataclass(frozen=True)
class ForestTables:
    """The tables of a forest of K nodes over N features, on one device.

    Attributes:
        feature: [K] int32, the feature of each node.
        gate: [K] int32, the feature of each node's gate, or -1.
        flags: [K] int32, 2 * the exclusive group of each node, -1 for none, + 1 where the gate
            scales it.
        depth: [K] int32, the level of each node, from 0 for those that nothing gates.
        node_of: [N] int32, the node of each feature, or -1.
        levels: [L + 1] int32, where the levels begin that have something to decide, and the end
            of the last; the nodes that nothing gates are such a level only where some of them are
            in exclusive groups.
        num_groups: number of exclusive groups.
        scales: whether any node is scaled.
    """

    feature: torch.Tensor
    gate: torch.Tensor
    flags: torch.Tensor
    depth: torch.Tensor
    node_of: torch.Tensor
    levels: torch.Tensor
    num_groups: int
    scales: bool

    @property
    def num_levels(self) -> int:
        """Number of levels L."""
        return self.levels.numel() - 1


_tables: WeakKeyDictionary[Forest, dict[tuple[torch.device, int], ForestTables]] = (
    WeakKeyDictionary()
)


def tables_of(forest: Forest, num_features: int, device: torch.device) -> ForestTables:
    """The tables of a forest, whose features are below ``num_features``, on ``device``.

    They are made on the host, the first time; that waits for a forest that is on a GPU.
    """
    made = _tables.setdefault(forest, {})
    key = (device, num_features)
    if key not in made:
        made[key] = _tabulate(forest.to("cpu"), num_features, device)
    return made[key]


def _tabulate(forest: Forest, num_features: int, device: torch.device) -> ForestTables:
    gated = forest.gate >= 0
    gate = forest.gate.clone()
    gate[gated] = forest.feature[forest.gate[gated].long()]
    begins = torch.tensor([level.start for level in forest.levels()] + [forest.num_nodes])
    node_of = torch.full((num_features,), -1, dtype=torch.int32, device="cpu")
    node_of[forest.feature.long()] = torch.arange(forest.num_nodes, dtype=torch.int32)
    depth = torch.arange(begins.numel() - 1).repeat_interleave(begins.diff())
    tops_are_free = not bool((forest.group[~gated] >= 0).any())
    levels = begins[1:] if tops_are_free and forest.num_nodes else begins
    return ForestTables(
        feature=forest.feature.to(device),
        gate=gate.to(device),
        flags=(2 * forest.group + forest.scaled.int()).to(device),
        depth=depth.int().to(device),
        node_of=node_of.to(device),
        levels=levels.int().to(device),
        num_groups=int(forest.group.max()) + 1 if forest.num_nodes else 0,
        scales=forest.scales,
    )
