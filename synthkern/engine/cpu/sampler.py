"""Sampling a plan with the C++ core."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from synthkern import _core
from synthkern.engine.backend import Drawn, Noise
from synthkern.engine.cpu.arrays import entries, view
from synthkern.engine.cpu.forest import bound_forest
from synthkern.plan import Plan
from synthkern.plan.manifolds import Manifolds
from synthkern.plan.sequence import SequencePlan
from synthkern.stream.circle import part_of, slopes

_bound: WeakKeyDictionary[Plan, Any] = WeakKeyDictionary()


def sample(
    plan: Plan,
    seed: int,
    start: int,
    count: int,
    features: bool,
    vectors: torch.Tensor | None,
    bias: torch.Tensor | None,
    noise: Noise | None = None,
    /,
) -> Drawn:
    """Draw samples, split over as many threads as torch.get_num_threads() says."""
    *arrays, hidden = _core.sample(
        plan=bound_plan(plan),
        seed=seed,
        start=start,
        count=count,
        threads=torch.get_num_threads(),
        want_features=features,
        vectors=None if vectors is None else view(vectors),
        bias=None if bias is None else view(bias),
        noise_std=None if noise is None else view(noise.std),
        noise_factor=None if noise is None else view(noise.factor),
    )
    drawn = entries(arrays, plan.num_features) if features else None
    return Drawn(drawn, None if hidden is None else torch.from_numpy(hidden))


def bound_plan(plan: Plan) -> Any:
    """The core's form of a plan, with the tables that it screens features by; made once."""
    if plan not in _bound:
        law = plan.magnitudes
        _bound[plan] = _core.Plan(
            columns=view(plan.columns()),
            factor=view(plan.factor),
            rank=plan.rank,
            triangular=plan.triangular,
            mean=view(plan.mean),
            forests=[bound_forest(forest, plan.num_features) for forest in plan.forests],
            manifolds=None if plan.manifolds is None else _manifolds(plan.manifolds),
            law=0 if law is None else law.flags,
            parameters=None if law is None else view(law.parameters),
            shared=0.0 if law is None else law.shared,
            own=1.0 if law is None else law.own,
            sequence=None if plan.sequence is None else _bound_sequence(plan.sequence),
        )
    return _bound[plan]


def _manifolds(manifolds: Manifolds) -> tuple[Any, ...]:
    """What the core reads of manifolds."""
    return (
        view(manifolds.leader),
        manifolds.dimension,
        part_of(manifolds.dimension),
        *slopes(manifolds.concentration),
    )


def _bound_sequence(sequence: SequencePlan) -> Any:
    return _core.Sequence(
        length=sequence.length,
        laws=view(sequence.laws),
        threshold=view(sequence.packed_threshold()),
        persistence=view(sequence.persistence),
        law_of=view(sequence.law),
        factor_law=sequence.factor_law,
    )
