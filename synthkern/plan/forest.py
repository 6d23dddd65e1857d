"""A forest of features as flat arrays: what a kernel reads of a hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from weakref import WeakKeyDictionary

import numpy as np
import torch

from synthkern.plan.by_value import PickledByValue
from synthkern.world.hierarchy import HierarchyNode


@dataclass(frozen=True, eq=False)
class Forest(PickledByValue):
    """Feature nodes of a forest, breadth first; organisational nodes are contracted away.

    Node k carries feature ``feature[k]``. It can be active only where node ``parent[k]``, its
    nearest ancestor with a feature, is active; the ``num_roots`` nodes without such an ancestor
    come first and have parent -1. A node's children are contiguous, and so are the members of
    an exclusive group, so that walking the arrays upwards visits every parent before its
    children, and a whole group before anything below it.

    Attributes:
        feature: [K] int32, the feature of each node.
        parent: [K] int32, the node that must be active, or -1.
        child_begin: [K] int32, the first child.
        child_end: [K] int32, one past the last of them (equal to child_begin for a leaf).
        scaled: [K] uint8, 1 where the node's value is multiplied by its parent's value over the
            parent's mean magnitude.
        group: [K] int32, the exclusive group that the node belongs to, or -1.
    """

    feature: torch.Tensor
    parent: torch.Tensor
    child_begin: torch.Tensor
    child_end: torch.Tensor
    scaled: torch.Tensor
    group: torch.Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes K."""
        return self.feature.numel()

    @property
    def num_roots(self) -> int:
        """Number of nodes without a parent; they are nodes 0 ... num_roots - 1."""
        return int((self.parent < 0).sum())

    @property
    def scales(self) -> bool:
        """Whether any node is scaled by its parent, so that mean magnitudes are needed."""
        return bool(self.scaled.any())

    def node_of(self, num_features: int) -> torch.Tensor:
        """The node of each of ``num_features`` features, or -1: [N] int32."""
        node_of = torch.full((num_features,), -1, dtype=torch.int32, device=self.feature.device)
        nodes = torch.arange(self.num_nodes, dtype=torch.int32, device=node_of.device)
        return node_of.scatter_(0, self.feature.long(), nodes)

    def packed(self) -> torch.Tensor:
        """What a kernel reads of a node, beside each other: [K, 4] int32.

        The feature, the first child, the number of children, and 2 * group + scaled.
        """
        children = self.child_end - self.child_begin
        flags = 2 * self.group + self.scaled.int()
        return torch.stack([self.feature, self.child_begin, children, flags], dim=1)

    def levels(self) -> list[slice]:
        """The nodes of every depth, from the top down."""
        levels, first, end = [], 0, self.num_roots
        while first < end:
            levels.append(slice(first, end))
            first, end = end, int(self.child_end[first:end].max())
        return levels

    def group_totals(self, values: torch.Tensor, nodes: slice = slice(None)) -> torch.Tensor:
        """Totals of nodes' values over their exclusive groups; the value itself outside groups.

        Args:
            values: of the nodes.
            nodes: which they are, a whole level or all.
        """
        group = self.group[nodes].long()
        members = (group >= 0).nonzero().flatten()
        totals = values.clone()
        if members.numel():
            # Groups are numbered as they come.
            number = group[members] - group[members[0]]
            sums = torch.zeros(int(number[-1]) + 1, dtype=values.dtype, device=values.device)
            totals[members] = sums.index_add_(0, number, values[members])[number]
        return totals

    def to(self, device: torch.device | str) -> Forest:
        """This forest where it is on ``device`` already, else the same with every array there:
        one and the same each time, so that what backends bind to it is made once.
        """
        device = torch.device(device)
        if self.feature.device == device:
            return self
        copies = _copies.setdefault(self, {})
        if device not in copies:
            copies[device] = Forest(
                **{f.name: getattr(self, f.name).to(device) for f in fields(self)}
            )
        return copies[device]


#: Copies of forests on other devices.
_copies: WeakKeyDictionary[Forest, dict[torch.device, Forest]] = WeakKeyDictionary()


def compile_forest(roots: Sequence[HierarchyNode]) -> Forest:
    """The arrays of a valid forest, breadth first."""
    builder = _Builder()
    builder.add_family(roots, parent=-1, scaled=False, exclusive=False)
    # The list grows while it is walked.
    for k, node in enumerate(builder.nodes):
        builder.child_begin.append(len(builder.nodes))
        if node.children:
            builder.add_family(
                node.children,
                parent=k,
                scaled=node.scale_children_by_parent,
                exclusive=node.mutually_exclusive_children,
            )
        builder.child_end.append(len(builder.nodes))
    return builder.build()


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[HierarchyNode] = []
        self.parent: list[int] = []
        self.scaled: list[int] = []
        self.group: list[int] = []
        self.child_begin: list[int] = []
        self.child_end: list[int] = []
        self._num_groups = 0

    def add_family(
        self, children: Sequence[HierarchyNode], *, parent: int, scaled: bool, exclusive: bool
    ) -> None:
        """Append the nodes with a feature that ``parent`` is the nearest such ancestor of."""
        waiting = [(children, scaled, exclusive)]
        # This list grows too.
        for siblings, scaled, exclusive in waiting:
            members = [node for node in siblings if node.feature_index is not None]
            group = -1
            if exclusive and len(members) > 1:
                group = self._num_groups
                self._num_groups += 1
            self.nodes.extend(members)
            self.parent.extend([parent] * len(members))
            self.scaled.extend([int(scaled and parent >= 0)] * len(members))
            self.group.extend([group] * len(members))
            if len(members) < len(siblings):
                waiting.extend(
                    (node.children, node.scale_children_by_parent, node.mutually_exclusive_children)
                    for node in siblings
                    if node.feature_index is None
                )

    def build(self) -> Forest:
        def int32(numbers: list[int]) -> torch.Tensor:
            # NumPy reads a list in a third of the time.
            return torch.from_numpy(np.array(numbers, dtype=np.int32))

        return Forest(
            feature=int32([node.feature_index for node in self.nodes]),  # type: ignore[misc]
            parent=int32(self.parent),
            child_begin=int32(self.child_begin),
            child_end=int32(self.child_end),
            scaled=int32(self.scaled).to(torch.uint8),
            group=int32(self.group),
        )
