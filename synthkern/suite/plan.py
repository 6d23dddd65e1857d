"""The runs of a suite, each with its full config and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from synthkern._checks import as_float
from synthkern.stream import STREAM_VERSION
from synthkern.suite.axes import MOST_RUNS, read_random
from synthkern.suite.combination import (
    Combination,
    MadeRun,
    PlannedWorld,
    Taken,
    Worlds,
    naming,
)
from synthkern.suite.database import PlannedRun
from synthkern.suite.fields import L0, RESERVED, SECTIONS, WORLD, qualified
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
}

#: Axes whose fields change together, and the values that they take: a list of ``vary``, or the
#: points of ``random``.
_Dimension = tuple[tuple[str, ...], list[tuple[Any, ...]]]

#: What a run takes from each value of a dimension; None where it takes what it took before.
_Choices = list[tuple[Taken, ...] | None]


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
    "hidden_dim=256" where that field is an axis.

    Words about the same thing are alternatives; a run must fit one of each thing spoken of.

    Raises:
        ValueError: for a word that no run fits.
    """
    words = list(words)
    if not words:
        return list(runs)
    wanted: dict[str, set[str]] = {}
    known = [_words(run) for run in runs]
    for word in words:
        things = {thing for each in known for thing, names in each.items() if word in names}
        if not things:
            every = sorted({name for each in known for names in each.values() for name in names})
            raise ValueError(f"--only must name some of {', '.join(every)}; got {word!r}")
        for thing in things:
            wanted.setdefault(thing, set()).add(word)
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
        "l0": set() if run.l0 is None else {f"l0={run.l0:g}"},
        "seed": {f"seed={run.seed}"},
        **{
            f"axis {name}": {f"{name}={axis_text(value)}"}
            for name, value in run.axes.items()
            if name not in ("world", "sae")
        },
    }


def axis_text(value: Any) -> str:
    """A value of an axis as names of runs have it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _runs(suite: Suite, worlds: Sequence[PlannedWorld]) -> Iterator[PlannedRun]:
    made = Worlds()
    for lane, taken, l0, seed in lane_points(suite, worlds):
        with naming(f"saes[{lane.combination.name!r}]"):
            yield planned_run(suite, lane, taken, l0, seed, made)


def lane_points(
    suite: Suite, worlds: Sequence[PlannedWorld]
) -> Iterator[tuple[Lane, tuple[Taken, ...], float | None, int]]:
    """What each run of a suite takes: its lane, the values of axes, its L0 and its seed."""
    combinations: dict[tuple[str, str], Combination] = {}
    for world, name in product(worlds, suite.saes):
        with naming(f"saes[{name!r}]"):
            combinations[world.name, name] = Combination(suite, world, name)
    axes = Axes(suite, list(combinations.values()))
    asked: list[float | None] = [*suite.l0] or [None]
    lanes = {place: Lane(axes, each) for place, each in combinations.items()}
    _check_count(suite, axes, lanes.values())
    for world in worlds:
        for place in product(*(range(len(values)) for _, values in axes.dimensions)):
            for l0, seed, name in product(asked, suite.seeds, suite.saes):
                lane = lanes[world.name, name]
                if not lane.combination.asks and l0 != asked[0]:
                    continue
                for taken in lane.at(place):
                    yield lane, taken, l0, seed


def planned_run(
    suite: Suite,
    lane: Lane,
    taken: Sequence[Taken],
    l0: float | None,
    seed: int,
    worlds: Worlds,
) -> PlannedRun:
    """The run of an SAE that takes these values of axes; see :meth:`Combination.make`."""
    combination = lane.combination
    asked = l0 if combination.asks else None
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
    return PlannedRun(_key(made), suite.name, world, sae, asked, seed, made.config, axes=axes)


class Axes:
    """What all SAEs of a suite are varied over.

    Attributes:
        dimensions: those of worlds first.
        fields: the fields of the axes, by their names with sections; :data:`L0` is itself.
        has_axes: whether there are any, or an SAE has some of its own.
        asks: whether the suite asks for L0s.

    Raises:
        ValueError: for an axis that names no field, two on one, or one that is set besides.
    """

    def __init__(self, suite: Suite, combinations: Sequence[Combination]) -> None:
        self._combinations = combinations
        random = read_random("random", suite.random)
        drawn = tuple(random.ranges) if random is not None else ()
        self.fields: dict[str, str] = {}
        searched = () if suite.search is None else tuple(suite.search.ranges)
        for where, names in (("vary", suite.vary), ("random", drawn), ("search", searched)):
            for name in names:
                self._add(suite, where, name)
        lists: list[_Dimension] = [
            ((name,), [(value,) for value in values]) for name, values in suite.vary.items()
        ]
        of_worlds = [each for each in lists if self._is_of_world(each[0][0])]
        points: list[_Dimension] = []
        if random is not None:
            found = [tuple(point[name] for name in drawn) for point in random.points()]
            points = [(drawn, found)]
        self.dimensions = [*of_worlds, *points, *(each for each in lists if each not in of_worlds)]
        #: The names of those that a search has values for.
        self.searched = searched
        self.has_axes = bool(self.dimensions or searched) or any(
            sae.vary for sae in suite.saes.values()
        )
        self.asks = bool(suite.l0) or L0 in self.fields.values()

    def field(self, where: str, name: str) -> str:
        """The field that an axis names, by its name with its section."""
        known: dict[str, list[str]] = {section: [] for section in SECTIONS}
        for field in dict.fromkeys(each for one in self._combinations for each in one.known):
            section, _, path = field.partition(".")
            known[section].append(path)
        with naming(where):
            field = qualified(name, known, (L0,))
        section, _, path = field.partition(".")
        if path.partition(".")[0] in RESERVED[section]:
            raise ValueError(
                f"{where} must not vary {field}, which a suite's runs have of their own"
                f"{': say seeds' * (path == 'seed')}"
            )
        return field

    def _is_of_world(self, name: str) -> bool:
        return self.fields[name].startswith(f"{WORLD}.")

    def _add(self, suite: Suite, where: str, name: str) -> None:
        place = f"{where}[{name!r}]"
        field = L0 if name == L0 else self.field(where, name)
        for other, same in self.fields.items():
            if same == field:
                raise ValueError(
                    f"{place} must be the one axis on {field}, but {other!r} is another"
                )
        if field == L0:
            if suite.l0:
                raise ValueError(f"{place} must not be there beside l0, got {suite.l0}")
            if not any(each.asks for each in self._combinations):
                raise ValueError(f"{place} must be what some SAE can be asked for, but none can")
        else:
            self._check_alone(suite, place, field)
        self.fields[name] = field

    def _check_alone(self, suite: Suite, place: str, field: str) -> None:
        section, _, path = field.partition(".")
        fixed: Mapping[str, Any] = getattr(suite, section)
        if path in fixed:
            raise ValueError(f"{place} must be set once, but {section} sets it: {fixed[path]!r}")
        for each in self._combinations:
            if section == WORLD and isinstance(each.world.source, str):
                raise ValueError(
                    f"{place} must not be there with the saved model {each.world.name!r}, whose "
                    "fields are as they are"
                )


class Lane:
    """The points that an SAE takes in a world: of all axes those on fields that it has.

    What it says of itself goes before the suite's axes. Points that differ for others alone are
    one to it.

    Attributes:
        combination: of the two.
        has_axes: whether the suite has any.
        own: points of its own axes.
    """

    def __init__(self, axes: Axes, combination: Combination) -> None:
        self.combination = combination
        self.has_axes = axes.has_axes
        with naming(f"saes[{combination.name!r}]"):
            own = self._own_fields(axes)
            #: What the suite's axes do not decide.
            self._decided = {*combination.own, *own.values()}
            if axes.asks:
                self._check_l0({**axes.fields, **own})
            lists = [
                [self._taken(name, field, value) for value in combination.vary[name]]
                for name, field in own.items()
            ]
            #: The fields that a search varies for this SAE, by the suite's names for them.
            self.searched = {
                name: axes.fields[name] for name in axes.searched if self._takes(axes.fields[name])
            }
            self.own: list[tuple[Taken, ...]] = list(product(*lists))
            self._choices = [
                self._choices_of([(name, axes.fields[name]) for name in names], values)
                for names, values in axes.dimensions
            ]

    def at(self, place: Sequence[int]) -> Iterator[tuple[Taken, ...]]:
        """What the runs at a place of the suite's dimensions take; nothing where they have been."""
        taken: tuple[Taken, ...] = ()
        for choices, number in zip(self._choices, place, strict=True):
            here = choices[number]
            if here is None:
                return
            taken += here
        for own in self.own:
            yield taken + own

    def at_point(self, point: Mapping[str, Any]) -> tuple[Taken, ...]:
        """What a run takes for a value of each field that is searched."""
        return tuple(self._taken(name, self.searched[name], point[name]) for name in point)

    def _own_fields(self, axes: Axes) -> dict[str, str]:
        """The fields of this SAE's own axes."""
        found: dict[str, str] = {}
        for name in self.combination.vary:
            place = f"vary[{name!r}]"
            field = axes.field("vary", name)
            if field.startswith(f"{WORLD}.") or field not in self.combination.known:
                raise ValueError(f"{place} must be a field of this SAE or of its training")
            if field in self.combination.own:
                raise ValueError(f"{place} must be set once, but {field} is set beside it")
            searched = {axes.fields[each] for each in axes.searched}
            if field in searched or field in found.values():
                raise ValueError(f"{place} must be the one axis on {field}, but there is another")
            found[name] = field
        return found

    def _choices_of(
        self, fields: Sequence[tuple[str, str]], values: Sequence[tuple[Any, ...]]
    ) -> _Choices:
        mine = [
            (number, name, field)
            for number, (name, field) in enumerate(fields)
            if self._takes(field)
        ]
        seen = set()
        found: _Choices = []
        for value in values:
            text = json.dumps([value[number] for number, _, _ in mine], sort_keys=True)
            if text in seen:
                found.append(None)
                continue
            seen.add(text)
            found.append(
                tuple(self._taken(name, field, value[number]) for number, name, field in mine)
            )
        return found

    def _takes(self, field: str) -> bool:
        if field == L0:
            return self.combination.asks
        return field in self.combination.known and field not in self._decided

    def _taken(self, name: str, field: str, value: Any) -> Taken:
        if field == L0:
            number = as_float(name, value, low=0, open_low=True)
            return Taken(name, field, int(number) if number.is_integer() else number)
        with naming(name):
            return Taken(name, field, self.combination.known[field].read(value))

    def _check_l0(self, fields: Mapping[str, str]) -> None:
        """Raise where an axis is on the field that an L0 sets."""
        for name, field in fields.items():
            if field in self.combination.l0_fields and field not in self.combination.own:
                raise ValueError(f"{name!r} must not be an axis beside l0, which sets {field}")


def _check_count(suite: Suite, axes: Axes, lanes: Iterable[Lane]) -> None:
    places = math.prod(len(values) for _, values in axes.dimensions)
    own = sum(len(lane.own) for lane in lanes)
    count = places * own * max(1, len(suite.l0)) * len(suite.seeds)
    if count > MOST_RUNS:
        raise ValueError(f"a suite may have {MOST_RUNS:,} runs at most, got {count:,} combinations")


def _key(made: MadeRun) -> str:
    """The first 64 bits of a hash of all that decides the outcome of a run."""
    config = made.config
    decides = {name: value for name, value in config.items() if name not in _NOT_IN_KEY}
    decides["synthetic_model"] = made.world.identity
    # How often the training curves have a row.
    decides["log_every"] = config["logger"]["wandb_log_frequency"]
    text = json.dumps([STREAM_VERSION, decides], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
