"""The dense algorithm in plain PyTorch: what one writes without kernels of one's own.

Everything is a tensor [B, N]: a Gaussian copula from low-rank factors, a threshold, magnitudes,
the hierarchy level by level, and a product with the dictionary. Nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from synthkern import SyntheticModel
from synthkern.plan import Plan


@dataclass(frozen=True)
class _Level:
    """The nodes of one depth.

    Attributes:
        feature: [K] int64.
        gate: [K] int64, the features that gate them, or None at the top.
        scale: [K] float32, what a gate's value is multiplied by, and offset: a scaled child is
            multiplied by scale * gate value + offset, any other by 0 * gate value + 1.
        groups: [G, M] int64, places of exclusive groups' members among the level's nodes, a group
            of fewer padded with K.
    """

    feature: torch.Tensor
    gate: torch.Tensor | None
    scale: torch.Tensor
    offset: torch.Tensor
    groups: torch.Tensor


class DenseWorld:
    """A world of one forest at most, independent or under a low-rank copula.

    Args:
        world: on the device to sample on; its tensors are shared.
    """

    def __init__(self, world: SyntheticModel) -> None:
        self._plan = world.activation_generator.plan
        self._loading = self._plan.factor[:, : self._plan.rank].T.contiguous()
        self._vectors = world.feature_dict.feature_vectors.detach()
        self._bias = world.feature_dict.bias.detach()
        assert len(self._plan.forests) <= 1
        self._levels = _levels(self._plan)

    @torch.no_grad()
    def sample(self, batch: int) -> torch.Tensor:
        """Hidden activations [B, D], from torch's own generator."""
        return torch.addmm(self._bias, self.features(batch), self._vectors)

    @torch.no_grad()
    def features(self, batch: int) -> torch.Tensor:
        """Activations [B, N], from torch's own generator."""
        n, device = self._plan.num_features, self._plan.device
        factors = torch.randn(batch, self._plan.rank, device=device)
        noise = torch.randn(batch, n, device=device)
        return self.given(factors, noise, torch.randn(batch, n, device=device))

    @torch.no_grad()
    def given(
        self,
        factors: torch.Tensor,
        noise: torch.Tensor,
        magnitude: torch.Tensor,
        priority: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Activations [B, N] of given normals.

        Args:
            factors: [B, r].
            noise: [B, N], overwritten.
            magnitude: [B, N], overwritten.
            priority: [B, N], of the members of exclusive groups; random by default.
        """
        plan = self._plan
        correlated = noise.mul_(plan.noise_scale)
        if plan.rank:
            correlated.addmm_(factors, self._loading)
        active = magnitude.mul_(plan.std).add_(plan.mean).relu_()
        active.masked_fill_(correlated <= plan.threshold, 0.0)
        for level in self._levels:
            _gate(active, level, priority)
        return active


def _gate(active: torch.Tensor, level: _Level, priority: torch.Tensor | None) -> None:
    """Gate, scale and thin out the nodes of a level, in place."""
    value = active[:, level.feature]
    if level.gate is not None:
        gate = active[:, level.gate]
        value = value * (gate > 0) * (gate * level.scale + level.offset)
    if level.groups.numel():
        # A place behind the last, never active, for groups of fewer members.
        padded = torch.nn.functional.pad(value, (0, 1))[:, level.groups]
        if priority is None:
            chance = torch.rand_like(padded)
        else:
            chance = torch.nn.functional.pad(priority[:, level.feature], (0, 1))[:, level.groups]
        chance = chance.masked_fill_(padded <= 0, -1)
        winner = chance.argmax(dim=2, keepdim=True)
        thinned = torch.zeros_like(padded).scatter_(2, winner, padded.gather(2, winner))
        kept = torch.nn.functional.pad(value, (0, 1))
        kept[:, level.groups] = thinned
        value = kept[:, :-1]
    active[:, level.feature] = value


def _levels(plan: Plan) -> list[_Level]:
    levels: list[_Level] = []
    if not plan.forests:
        return levels
    forest, mean = plan.forests[0], plan.mean
    for nodes in forest.levels():
        parent = forest.parent[nodes].long()
        is_root = int(parent[0]) < 0
        parent_feature = forest.feature.long()[parent.clamp(min=0)]
        scaled = forest.scaled[nodes].bool()
        levels.append(
            _Level(
                feature=forest.feature[nodes].long(),
                gate=None if is_root else parent_feature,
                scale=torch.where(scaled, 1 / mean[parent_feature], 0.0),
                offset=torch.where(scaled, 0.0, 1.0),
                groups=_groups(forest.group[nodes].long()),
            )
        )
    return levels


def _groups(group: torch.Tensor) -> torch.Tensor:
    """Places of the members of each group [G, M]; a group's are neighbours."""
    members = (group >= 0).nonzero().flatten()
    if not members.numel():
        return members.view(0, 0)
    _, number, size = group[members].unique_consecutive(return_inverse=True, return_counts=True)
    first = size.cumsum(0) - size
    place = torch.arange(members.numel(), device=group.device) - first[number]
    table = torch.full(
        (size.numel(), int(size.max())), group.numel(), dtype=torch.int64, device=group.device
    )
    table[number, place] = members
    return table
