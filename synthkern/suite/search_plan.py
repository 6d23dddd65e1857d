"""The searches of a suite: one for each SAE, world, L0 and point of the other axes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from synthkern.suite.axes import MOST_RUNS, RandomAxes, Range
from synthkern.suite.combination import Worlds, naming
from synthkern.suite.database import PlannedRun
from synthkern.suite.fields import L0
from synthkern.suite.grid import Lane
from synthkern.suite.plan import (
    Point,
    axis_text,
    lane_points,
    look_up_worlds,
    planned_run,
    select_runs,
)
from synthkern.suite.search import Search, is_of_evaluation
from synthkern.suite.suite import Suite


@dataclass(frozen=True)
class PlannedSearch:
    """A search of a suite.

    Attributes:
        title: what it is about, in words.
        name: the same, with a hash of all that decides how it goes, but for the number of trials.
        search: the suite's.
        ranges: those of its fields that the SAE takes.
        examples: a run of each seed, all of whose fields have the least values.
    """

    title: str
    name: str
    search: Search
    ranges: dict[str, Range]
    examples: list[PlannedRun]
    _suite: Suite
    _place: Point
    _worlds: Worlds

    def runs(self, point: Mapping[str, Any]) -> list[PlannedRun]:
        """The runs of a trial, one for each seed.

        Raises:
            ValueError: where these values make no valid run.
        """
        return [self._run(point, run.seed) for run in self.examples]

    def likely_runs(self, trials: int) -> list[PlannedRun]:
        """The runs of so many trials at points drawn at random, to reckon with.

        They are fewer where there are not so many points, as trials of one point share its runs,
        or where some of them make no valid run.
        """
        drawn = RandomAxes(trials, self.search.seed, self.ranges).points()
        found: dict[str, PlannedRun] = {}
        with suppress(ValueError):  # there are no more points
            for point in drawn:
                with suppress(ValueError):
                    found |= {run.key: run for run in self.runs(point)}
        return list(found.values())

    def has(self, run: PlannedRun) -> bool:
        """Whether a run of the suite may be of one of this search's trials, by its name."""
        return self.title == _title(run, self.ranges)

    def _run(self, point: Mapping[str, Any], seed: int) -> PlannedRun:
        lane = self._place.lane
        with naming(f"saes[{lane.combination.name!r}]"):
            taken = (*self._place.taken, *lane.at_point(point))
            return planned_run(self._suite, replace(self._place, taken=taken), seed, self._worlds)


def plan_searches(suite: Suite, only: Iterable[str] = ()) -> list[PlannedSearch]:
    """All searches of a suite, in order.

    Args:
        suite: that has a search.
        only: words that choose among them; see :func:`select_runs`. Fields that are searched over
            cannot be among them.

    Raises:
        ValueError: naming what is wrong, as :func:`plan_runs` does; or for an SAE that takes none
            of the fields, or an end of a range that makes no valid run.
    """
    search = suite.search
    assert search is not None
    worlds = Worlds()
    found: dict[str, tuple[PlannedSearch, dict[int, PlannedRun]]] = {}
    places = lane_points(suite, look_up_worlds(suite))
    for seed, place in (each for points in places for each in product(suite.seeds, points)):
        lane = place.lane
        ranges = {name: search.ranges[name] for name in lane.searched}
        _check_ranges(lane, ranges)
        plan = PlannedSearch("", "", search, ranges, [], suite, place, worlds)
        first, *others = [plan._run(point, seed) for point in _ends(ranges)]
        for run in (first, *others):
            _check_pruning(search, run)
        title = _title(first, ranges)
        found.setdefault(title, (plan, {}))[1][seed] = first
    chosen = {run.key for run in _select(found, only)}
    plans = []
    for title, (plan, runs) in found.items():
        examples = [run for run in runs.values() if run.key in chosen]
        if examples:
            plans.append(
                replace(plan, title=title, name=_name(title, plan, examples), examples=examples)
            )
    count = search.trials * sum(len(plan.examples) for plan in plans)
    if count > MOST_RUNS:
        raise ValueError(f"a suite may have {MOST_RUNS:,} runs at most, got {count:,} in trials")
    return plans


def _select(
    found: Mapping[str, tuple[PlannedSearch, Mapping[int, PlannedRun]]], only: Iterable[str]
) -> list[PlannedRun]:
    """The examples that words choose, which see nothing of the fields that are searched over."""
    shown = []
    for plan, runs in found.values():
        for run in runs.values():
            axes = {name: value for name, value in run.axes.items() if name not in plan.ranges}
            asked = None if L0 in plan.ranges else run.l0
            names = {"world": axes["world"], "sae": axes["sae"]}
            shown.append(replace(run, axes=axes, l0=asked, **names))
    return select_runs(shown, only)


def _check_ranges(lane: Lane, ranges: Mapping[str, Range]) -> None:
    sae = lane.combination.name
    if not ranges:
        raise ValueError(f"search must have a field that the SAE {sae!r} takes, but it has none")
    for name, each in ranges.items():
        field = lane.combination.known.get(lane.searched[name])
        if field is not None and field.is_whole and each.kind in ("uniform", "log_uniform"):
            raise ValueError(
                f"search[{name!r}] must be integers or choices, as {lane.searched[name]} takes "
                f"whole numbers, got {each.kind}"
            )


def _check_pruning(search: Search, run: PlannedRun) -> None:
    """Raise where a curve would have no point before the end."""
    if search.pruning is None:
        return
    config, curve = run.config, search.pruning.curve
    steps = -(-config["training_samples"] // config["batch_size"])
    name, every = "logger.wandb_log_frequency", config["logger"]["wandb_log_frequency"]
    if is_of_evaluation(curve):
        name, every = "eval_frequency", config["eval_frequency"]
    if not every or every >= steps:
        raise ValueError(
            f"search.pruning by {curve} must have points of it before the end: {name} is "
            f"{every or 0} steps, where a training has {steps}"
        )


def _ends(ranges: Mapping[str, Range]) -> Iterator[dict[str, Any]]:
    """Points that say whether ranges hold what their fields take: first that of least values."""
    low = {name: each.values[0] for name, each in ranges.items()}
    yield low
    for name, each in ranges.items():
        for value in each.values[1:]:
            yield {**low, name: value}


def _title(run: PlannedRun, ranges: Mapping[str, Range]) -> str:
    title = f"{run.axes['sae']} on {run.axes['world']}"
    for name, value in run.axes.items():
        if name not in ("world", "sae", *ranges):
            title += f", {name}={axis_text(value)}"
    return title if run.l0 is None or L0 in ranges else f"{title}, L0 {run.l0:g}"


def _name(title: str, plan: PlannedSearch, examples: Iterable[PlannedRun]) -> str:
    decides = {name: value for name, value in plan.search.to_dict().items() if name != "trials"}
    text = json.dumps([decides, [run.key for run in examples]], sort_keys=True)
    return f"{title} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
