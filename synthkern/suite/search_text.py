"""Searches in words: what they will do, and the best that they have found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from synthkern.suite.axes import Range
from synthkern.suite.database import Run
from synthkern.suite.estimate import Estimate
from synthkern.suite.fields import L0
from synthkern.suite.plan import axis_text
from synthkern.suite.plan_text import estimate_lines
from synthkern.suite.search import Search
from synthkern.suite.search_plan import PlannedSearch

_WIDTH = 100

#: Trials that are shown where two figures are sought after and none is best.
_FEW = 10


def search_text(
    suite: str,
    plans: Sequence[PlannedSearch],
    done: Sequence[int],
    estimate: Estimate | None = None,
    *,
    jobs: int = 1,
) -> str:
    """What searches are about to do.

    Args:
        suite: its name.
        plans: those that are chosen.
        done: of each, how many trials are over.
        estimate: of runs as those of the trials that are left may be, or None where nothing was
            measured.
        jobs: worker processes.
    """
    search = plans[0].search
    lines = [
        f"{suite}: {_counted(len(plans), 'search', 'es')} of {_counted(search.trials, 'trial')}"
        f"{' each' * (len(plans) > 1)}, {_counted(len(plans[0].examples), 'run')} a trial",
        f"for: {_objectives(search)}",
        *(f"over {name}: {_range(each)}" for name, each in search.ranges.items()),
        f"seed of the choices: {search.seed}",
    ]
    if search.pruning is not None:
        pruning = search.pruning
        lines.append(
            f"pruned where {pruning.curve} ({pruning.direction}) is worse than the median: after "
            f"{_counted(pruning.startup_trials, 'trial')} and {pruning.warmup_samples:,} samples"
        )
    lines += [f"search {number}: {plan.title}" for number, plan in enumerate(plans[:_FEW], 1)]
    if len(plans) > _FEW:
        lines.append(f"and {len(plans) - _FEW:,} more searches")
    samples = sum(
        search.trials * run.config["training_samples"] for plan in plans for run in plan.examples
    )
    lines.append(f"{samples:,} samples, about, where no trial is pruned")
    if any(done):
        left = sum(max(0, search.trials - each) for each in done)
        lines.append(f"left to do: {_counted(left, 'trial')}")
    if estimate is not None:
        lines += estimate_lines(estimate, jobs)
    first, *others = lines
    return "\n".join([first, *(line for text in others for line in _wrapped(text))])


def best_text(plans: Sequence[PlannedSearch], runs: Sequence[Run]) -> str:
    """The best trials of searches, by their runs: one of each, or with two objectives those that
    no other betters in both.
    """
    return "\n".join(line for plan in plans for line in _best(plan, runs))


def _best(plan: PlannedSearch, runs: Sequence[Run]) -> Iterator[str]:
    objectives = plan.search.objectives
    signs = [1 if direction == "maximize" else -1 for direction in objectives.values()]
    found = list(_trials(plan, runs))
    best = [
        (point, values)
        for point, values in found
        if not any(_betters(other, values, signs) for _, other in found)
    ]
    count = _counted(len(found), "finished trial")
    yield f"{plan.title}: {f'best of {count}' if found else 'no finished trial'}"
    best.sort(key=lambda each: -signs[0] * each[1][0])
    for point, values in best[:_FEW]:
        figures = ", ".join(f"{n} {v:.4f}" for n, v in zip(objectives, values, strict=True))
        where = ", ".join(f"{name}={axis_text(value)}" for name, value in point.items())
        yield from _wrapped(f"{figures} with {where}")


def _trials(
    plan: PlannedSearch, runs: Sequence[Run]
) -> Iterator[tuple[dict[str, Any], list[float]]]:
    """The point and the figures, means over seeds, of each trial that is finished."""
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        if plan.has(run):
            grouped.setdefault(f"{run.world}/{run.sae}/{run.l0}", []).append(run)
    for group in grouped.values():
        values = [
            math.fsum(math.nan if v is None else v for v in figures) / len(figures)
            for figures in (
                [run.metrics.get(name) for run in group] for name in plan.search.objectives
            )
        ]
        if len(group) == len(plan.examples) and all(map(math.isfinite, values)):
            yield {name: _taken(group[0], name) for name in plan.ranges}, values


def _taken(run: Run, name: str) -> Any:
    if name == L0:
        return run.l0 if run.l0 is None or run.l0 % 1 else int(run.l0)
    return run.axes[name]


def _betters(one: Sequence[float], other: Sequence[float], signs: Sequence[int]) -> bool:
    pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, one, other, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _objectives(search: Search) -> str:
    return " and ".join(
        f"{'greatest' if direction == 'maximize' else 'least'} {name}"
        for name, direction in search.objectives.items()
    )


def _range(each: Range) -> str:
    if each.kind == "choices":
        return ", ".join(map(axis_text, each.values))
    low, high = each.values
    kind = {"integers": "whole numbers ", "log_uniform": "logarithmically "}.get(each.kind, "")
    return f"{kind}from {low:g} to {high:g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{plural * (count != 1)}"
