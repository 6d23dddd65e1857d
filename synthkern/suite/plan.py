"""The runs of a suite, each with its full config and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from synthkern.stream import STREAM_VERSION
from synthkern.suite.baselines import BASELINE, SOURCE, TRAINED_AS, as_trained
from synthkern.suite.combination import (
    Combination,
    PlannedWorld,
    Taken,
    Worlds,
    naming,
)
from synthkern.suite.database import PlannedRun
from synthkern.suite.fields import L0, WORLD
from synthkern.suite.grid import Lane, SuiteAxes, check_count
from synthkern.suite.plugins import load_architectures
from synthkern.suite.suite import Suite

#: Fields of a run's config that decide nothing about its outcome.
_NOT_IN_KEY = {
    "device",
    "output_path",
    "checkpoint_path",
    "checkpoint_seconds",
    "cuda_graph",
    "resume",
    "logger",
    "sae_lens_version",
    "save_synthetic_model",
    TRAINED_AS,
}


#: Fields that runs had not at first, and what says that they do without: such a run's key is what
#: it was, and finds what was done before there were any.
_CAME_LATER = {"resample_dead_every": None}


#: Words that are named where one is none of them.
_SHOWN = 100


def plan_runs(suite: Suite) -> list[PlannedRun]:
    """All runs of a suite, in order: by world, axes, L0, seed and SAE.

    Fields of worlds come first among the axes, so that runs in one world follow each other.

    Raises:
        ValueError: naming the SAE or the world, where a run's config is not valid; naming the
            axis or the expression that is not; or where two runs are the same.
        FileNotFoundError: where an SAE's file or a world is missing.
        ImportError: where something is missing that a world or an SAE needs.
    """
    if suite.search is not None:
        raise ValueError("suite must have no search: its runs are not known before it is done")
    worlds = look_up_worlds(suite)
    runs: dict[str, PlannedRun] = {}
    for run in _runs(suite, worlds):
        same = runs.setdefault(run.key, run)
        if same is not run:
            raise ValueError(
                f"saes and worlds must differ, but {same.sae!r} on {same.world!r} and {run.sae!r} "
                f"on {run.world!r} make the same run"
            )
    return list(runs.values())


def look_up_worlds(suite: Suite) -> list[PlannedWorld]:
    """The worlds of a suite, with the architectures of its files registered."""
    worlds = [PlannedWorld.look_up(name, source) for name, source in suite.worlds.items()]
    for sae in suite.saes.values():
        if sae.file is not None:
            load_architectures(sae.file)
    return worlds


def parse_filter(text: str) -> list[str]:
    """The words for :func:`select_runs` in a text, separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def select_runs(runs: Sequence[PlannedRun], words: Iterable[str]) -> list[PlannedRun]:
    """The runs that words choose: names of worlds, SAEs and architectures, "l0=25", "seed=3", and
    "hidden_dim=256" where that field is an axis. A text is of words separated by commas.

    Words about the same thing are alternatives; a run must fit one of each thing spoken of.

    Raises:
        ValueError: for a word that no run fits.
    """
    words = parse_filter(words) if isinstance(words, str) else list(words)
    if not words:
        return list(runs)
    wanted: dict[str, set[str]] = {}
    known = [_words(run) for run in runs]
    for word in words:
        things = {
            thing
            for each in known
            for thing, names in each.items()
            if word in names or _plain(word) in names
        }
        if not things:
            every = sorted({name for each in known for names in each.values() for name in names})
            more = f" and {len(every) - _SHOWN:,} more" if len(every) > _SHOWN else ""
            shown = ", ".join(every[:_SHOWN])
            raise ValueError(f"--only must name some of {shown}{more}; got {word!r}")
        for thing in things:
            wanted.setdefault(thing, set()).update((word, _plain(word)))
    return [
        run
        for run, each in zip(runs, known, strict=True)
        if all(each.get(thing, set()) & words for thing, words in wanted.items())
    ]


def _words(run: PlannedRun) -> dict[str, set[str]]:
    return {
        "world": {run.world, run.axes.get("world", run.world)},
        "sae": {
            run.sae,
            run.axes.get("sae", run.sae),
            run.config.get("sae", {}).get("architecture", run.sae),
        },
        "l0": set() if run.l0 is None else {_plain(f"l0={run.l0}")},
        "seed": {f"seed={run.seed}"},
        **{
            f"axis {name}": {_plain(f"{name}={axis_text(value)}")}
            for name, value in run.axes.items()
            if name not in ("world", "sae")
        },
    }


def _plain(word: str) -> str:
    """A word with its number in one way of writing it: of "lr=1e-3" and "lr=0.0010" the same."""
    name, equals, text = word.partition("=")
    try:
        number = float(text)
    except ValueError:
        return word
    if not equals or not math.isfinite(number):
        return word
    # Of large seeds every digit counts.
    is_whole = number.is_integer()
    shown = int(text if text.strip("+- ").isdigit() else number) if is_whole else number
    return f"{name.strip()}={shown}"


def axis_text(value: Any) -> str:
    """A value of an axis as names of runs have it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _lanes(
    suite: Suite, worlds: Sequence[PlannedWorld]
) -> tuple[SuiteAxes, dict[tuple[str, str], Lane]]:
    """The axes of a suite, and the lane of each world and SAE, by their names."""
    combinations: dict[tuple[str, str], Combination] = {}
    for world, name in product(worlds, suite.saes):
        with naming(f"saes[{name!r}]"):
            combinations[world.name, name] = Combination(suite, world, name)
    axes = SuiteAxes(suite, list(combinations.values()))
    lanes = {place: Lane(axes, each) for place, each in combinations.items()}
    check_count(suite, axes, lanes.values())
    return axes, lanes


@dataclass(frozen=True)
class Point:
    """What runs of all seeds take: a lane, the values of axes, and an L0."""

    lane: Lane
    taken: tuple[Taken, ...]
    l0: float | None


def lane_points(suite: Suite, worlds: Sequence[PlannedWorld]) -> Iterator[list[Point]]:
    """The points of a suite's lanes, those together that have their place and L0 in common."""
    axes, lanes = _lanes(suite, worlds)
    asked: list[float | None] = [*suite.l0] or [None]
    for world in worlds:
        for place in product(*(range(len(values)) for _, values in axes.dimensions)):
            here = [
                (lane, taken)
                for lane in (lanes[world.name, name] for name in suite.saes)
                for taken in lane.at(place)
            ]
            for l0 in asked:
                yield [
                    Point(lane, taken, l0)
                    for lane, taken in here
                    if lane.combination.asks or l0 == asked[0]
                ]


def planned_run(suite: Suite, point: Point, seed: int, worlds: Worlds) -> PlannedRun:
    """The run of an SAE at a point; see :meth:`Combination.make`."""
    return _made(point, seed, worlds).run(suite.name, seed)


def _runs(suite: Suite, worlds: Sequence[PlannedWorld]) -> Iterator[PlannedRun]:
    known = Worlds()
    for points in lane_points(suite, worlds):
        made: list[_Made] = []
        for seed in suite.seeds:
            for point in points[len(made) :]:  # of the first seed: the others have the same
                with naming(f"saes[{point.lane.combination.name!r}]"):
                    made.append(_made(point, seed, known))
            for each in made:
                yield each.run(suite.name, seed)


@dataclass(frozen=True)
class _Made:
    """What runs of all seeds have in common."""

    config: dict[str, Any]
    identity: str
    world: str
    sae: str
    l0: float | None
    axes: dict[str, Any]

    def run(self, suite: str, seed: int) -> PlannedRun:
        """The one of a seed."""
        config = {**self.config, "seed": seed}
        key = _key(config, self.identity)
        if config.get(BASELINE) == "permuted_decoder":
            config[TRAINED_AS] = _key(as_trained(config), self.identity)
        return PlannedRun(key, suite, self.world, self.sae, self.l0, seed, config, axes=self.axes)


def _made(point: Point, seed: int, worlds: Worlds) -> _Made:
    lane, taken = point.lane, point.taken
    combination = lane.combination
    asked = point.l0 if combination.asks else None
    for each in taken:
        if each.field == L0:
            asked = each.value
    made = combination.make(taken, asked, seed, worlds)
    world, sae = combination.world.name, combination.name
    axes: dict[str, Any] = {}
    if lane.has_axes:
        axes = {"world": world, "sae": sae}
        for each in taken:
            if each.field == L0:
                continue
            value = axes[each.axis] = made.values[each.field]
            suffix = f", {each.axis}={axis_text(value)}"
            if each.field.startswith(f"{WORLD}."):
                world += suffix
            else:
                sae += suffix
    return _Made(made.config, made.world.identity, world, sae, asked, axes)


def _key(config: dict[str, Any], world: str) -> str:
    """The first 64 bits of a hash of all that decides the outcome of a run."""
    decides = {
        name: value
        for name, value in config.items()
        if name not in _NOT_IN_KEY and _CAME_LATER.get(name, ...) != value
    }
    decides["synthetic_model"] = world
    if SOURCE in decides:
        # Wherever it is: its identity is what it holds.
        decides[SOURCE] = {**decides[SOURCE], SOURCE: None}
    # How often the training curves have a row.
    decides["log_every"] = config["logger"]["wandb_log_frequency"]
    text = json.dumps([STREAM_VERSION, decides], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
