"""A plan's tables as the kernels read them, made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch

from synthkern.engine.triton.sample.held import Held, held_tables
from synthkern.engine.triton.sample.screen import Screen, build_screen
from synthkern.plan import Forest, Plan, compile_forest
from synthkern.stream import exponential_table, normal_table

#: Offsets into a list of eight numbers an entry, of several samples, must fit 32 bits.
MOST_FEATURES = 2**26


@dataclass(frozen=True)
class BoundPlan:
    """The tables of a plan, on its device.

    Attributes:
        plan: what they were made of.
        screen: of the features without a parent that no exclusive group holds.
        columns: [N, 4] int32, what the exact test reads, :meth:`Plan.columns`.
        table: [513, 4] float32, of the normals.
        nodes: [K, 4] int32, of the first forest, :meth:`Forest.packed`.
        node_of: [N] int32, the features' nodes or -1.
        grouped: [G] int32, the roots that an exclusive group holds.
        in_groups: whether any node is in an exclusive group.
        expected: about how many features of a sample fire once their parent is active, losers of
            exclusive groups among them; decides how long the first lists are, nothing else.
        law: [1 + N, 2] float32, of magnitudes other than plain normals: the factors of a sample's
            normal and of a feature's own, then location and scale; empty where there is none.
        exponentials: [288, 4] float32, of exponential variables; empty where there is no law.
        held: of its sequences.
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
    law: torch.Tensor
    exponentials: torch.Tensor
    held: Held

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
    forest = plan.forests[0] if plan.forests else compile_forest([]).to(device)
    is_root = forest.parent < 0
    grouped = is_root & (forest.group >= 0)
    free = torch.ones(n, dtype=torch.bool, device=device)
    free[forest.feature.long()] = is_root & ~grouped
    can_fire = plan.threshold < torch.inf if plan.rank else plan.fire_below > 0
    return BoundPlan(
        # Not the plan itself, which the table of bound plans must not keep alive.
        plan=replace(plan),
        screen=build_screen(plan, can_fire & free),
        columns=plan.columns(),
        table=normal_table(device).T.contiguous(),
        nodes=forest.packed(),
        node_of=forest.node_of(n),
        grouped=grouped.nonzero().flatten().int(),
        in_groups=bool((forest.group >= 0).any()),
        expected=_expected(plan, forest.to("cpu")),
        law=_law(plan),
        exponentials=(
            torch.empty(0, 4, device=device)
            if plan.magnitudes is None
            else exponential_table(device).T.contiguous()
        ),
        held=held_tables(plan),
    )


def _law(plan: Plan) -> torch.Tensor:
    law = plan.magnitudes
    if law is None:
        return torch.empty(0, 2, device=plan.device)
    factors = torch.tensor([[law.shared, law.own]], dtype=torch.float32, device=plan.device)
    return torch.cat([factors, law.parameters])


def _expected(plan: Plan, forest: Forest) -> float:
    # Asking for these waits for the tables too, so that every stream may read them from now on.
    rates = plan.probability.double().cpu()
    feature = forest.feature.long()
    own = rates[feature]
    drawn = own.clone()
    active = own.clone()
    for level in forest.levels():
        parent = forest.parent[level].long()
        drawn[level] *= torch.where(parent >= 0, active[parent], 1.0)
        # One at most of an exclusive group goes on.
        active[level] = drawn[level] / forest.group_totals(own[level], level).clamp(min=1)
    rates[feature] = drawn
    return float(rates.sum())
