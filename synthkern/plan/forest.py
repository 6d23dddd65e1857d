"""A forest of features as flat arrays: what a kernel reads of a hierarchy."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, eq=False)
class Forest:
    """Feature nodes of a forest, breadth first; organisational nodes are contracted away.

    Node k carries feature ``feature[k]``. It can be active only where node ``gate[k]``, its
    nearest ancestor with a feature, is active; the ``num_tops`` nodes without such an ancestor
    come first and have gate -1. A node's gated nodes are contiguous, and so are the members of
    an exclusive group, so that walking the arrays upwards visits every gate before what it
    gates, and a whole group before anything below it.

    Attributes:
        feature: [K] int32, the feature of each node.
        gate: [K] int32, the node that must be active, or -1.
        child_begin: [K] int32, first node that this one gates.
        child_end: [K] int32, one past the last of them (equal to child_begin for a leaf).
        scaled: [K] uint8, 1 where the node's value is multiplied by its gate's value over the
            gate's mean magnitude.
        group: [K] int32, the exclusive group that the node belongs to, or -1.
    """

    feature: torch.Tensor
    gate: torch.Tensor
    child_begin: torch.Tensor
    child_end: torch.Tensor
    scaled: torch.Tensor
    group: torch.Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes K."""
        return self.feature.numel()

    @property
    def num_tops(self) -> int:
        """Number of nodes that nothing gates; they are nodes 0 ... num_tops - 1."""
        return int((self.gate < 0).sum())

    @property
    def scales(self) -> bool:
        """Whether any node is scaled by its gate, so that mean magnitudes are needed."""
        return bool(self.scaled.any())

    def scaling_features(self) -> torch.Tensor:
        """Features whose mean magnitude divides their children's scale: int64, ascending."""
        gates = self.gate[self.scaled.bool()].long()
        return torch.unique(self.feature.long()[gates])

    def to(self, device: torch.device | str) -> Forest:
        """The same forest with every array on ``device``."""
        return Forest(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
