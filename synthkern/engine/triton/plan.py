"""A plan's tables as the kernels read them, made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch

from synthkern.engine.triton.screen import Screen, build_screen
from synthkern.plan import Plan
from synthkern.stream import normal_table

#: Offsets into a list of eight numbers an entry, of several samples, must fit 32 bits.
MOST_FEATURES = 2**26


@dataclass(frozen=True)
class BoundPlan:
    """The tables of a plan, on its device.

    Attributes:
        plan: what they were made of.
        screen: of the features that nothing gates and no exclusive group holds.
        columns: [N, 4] int32, what the exact test reads: threshold and noise scale under a
            copula, else the byte and the word that a feature's 40 bits must be below; mean; std.
        table: [513, 4] float32, of the normals.
        nodes: [K, 4] int32, of the first forest: feature, first child, number of children,
            2 * group + scaled.
        node_of: [N] int32, the features' nodes or -1.
        grouped: [G] int32, the nodes that nothing gates but an exclusive group holds.
        in_groups: whether any node is in an exclusive group.
        expected: about how many features of a sample fire once their gate is active, losers of
            exclusive groups among them; decides how long the first lists are, nothing else.
    """

    plan: Plan
    screen: Screen
    columns: torch.Tensor
    table: torch.Tensor
    nodes: torch.Tensor
    node_of: torch.Tensor
    grouped: torch.Tensor
    in_groups: bool
    expected: float

    @property
    def padded_rank(self) -> int:
        """Length of a row of loadings, 0 where features fire independently."""
        return self.plan.factor.shape[1] if self.plan.rank else 0


_bound: WeakKeyDictionary[Plan, BoundPlan] = WeakKeyDictionary()


def bound_plan(plan: Plan) -> BoundPlan:
    """The tables of a plan.

    Raises:
        ValueError: for more features than 32-bit offsets reach.
    """
    if plan not in _bound:
        _bound[plan] = _bind(plan)
    return _bound[plan]


def _bind(plan: Plan) -> BoundPlan:
    n, device = plan.num_features, plan.device
    if n > MOST_FEATURES:
        raise ValueError(f"num_features must be at most {MOST_FEATURES} on a GPU, got {n}")
    node_of = torch.full((n,), -1, dtype=torch.int32, device=device)
    gated = torch.zeros(n, dtype=torch.bool, device=device)
    nodes = torch.zeros(0, 4, dtype=torch.int32, device=device)
    grouped = torch.zeros(0, dtype=torch.int32, device=device)
    in_groups = False
    if plan.forests:
        forest = plan.forests[0]
        feature = forest.feature.long()
        node_of[feature] = torch.arange(forest.num_nodes, dtype=torch.int32, device=device)
        nodes = torch.stack(
            [
                forest.feature,
                forest.child_begin,
                forest.child_end - forest.child_begin,
                2 * forest.group + forest.scaled.int(),
            ],
            dim=1,
        ).contiguous()
        is_grouped_top = (forest.gate < 0) & (forest.group >= 0)
        grouped = is_grouped_top.nonzero().flatten().int()
        gated[feature] = (forest.gate >= 0) | is_grouped_top
        in_groups = bool((forest.group >= 0).any())
    can_fire = plan.threshold < torch.inf if plan.rank else plan.fire_below > 0
    return BoundPlan(
        # Not the plan itself, which the table of bound plans must not keep alive.
        plan=replace(plan),
        screen=build_screen(plan, can_fire & ~gated),
        columns=_columns(plan),
        table=normal_table(device).T.contiguous(),
        nodes=nodes,
        node_of=node_of,
        grouped=grouped,
        in_groups=in_groups,
        expected=_expected(plan),
    )


def _columns(plan: Plan) -> torch.Tensor:
    mean, std = plan.mean.view(torch.int32), plan.std.view(torch.int32)
    if plan.rank:
        first, second = plan.threshold.view(torch.int32), plan.noise_scale.view(torch.int32)
    else:
        first = (plan.fire_below >> 32).to(torch.int32)
        second = (plan.fire_below & 0xFFFFFFFF).to(torch.uint32).view(torch.int32)
    return torch.stack([first, second, mean, std], dim=1).contiguous()


def _expected(plan: Plan) -> float:
    # Asking for these waits for the tables too, so that every stream may read them from now on.
    rates = plan.probability.double().cpu()
    if not plan.forests:
        return float(rates.sum())
    forest = plan.forests[0].to("cpu")
    feature = forest.feature.long()
    own = rates[feature]
    drawn = own.clone()
    active = own.clone()
    for level in forest.levels():
        gate = forest.gate[level].long()
        drawn[level] *= torch.where(gate >= 0, active[gate], 1.0)
        # One at most of an exclusive group goes on.
        active[level] = drawn[level] / forest.group_totals(own[level], level).clamp(min=1)
    rates[feature] = drawn
    return float(rates.sum())
