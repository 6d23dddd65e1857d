"""The points of a suite's axes, and which of them each of its SAEs takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from synthkern._checks import as_float
from synthkern.suite.axes import MOST_RUNS, read_random
from synthkern.suite.combination import Combination, Taken, naming
from synthkern.suite.fields import L0, RESERVED, SECTIONS, WORLD, overlaps, qualified, says
from synthkern.suite.suite import Suite

#: Axes whose fields change together, and the values that they take: a list of ``vary``, or the
#: points of ``random``.
_Dimension = tuple[tuple[str, ...], list[tuple[Any, ...]]]

#: What a run takes from each value of a dimension; None where it takes what it took before.
_Choices = list[tuple[Taken, ...] | None]


class SuiteAxes:
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
            if overlaps(same, field):
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
        for name, value in fixed.items():
            within = path.removeprefix(f"{name}.")
            if overlaps(name, path) and (within == path or says(value, within)):
                raise ValueError(f"{place} must be set once, but {section} sets {name}: {value!r}")
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

    def __init__(self, axes: SuiteAxes, combination: Combination) -> None:
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

    def _own_fields(self, axes: SuiteAxes) -> dict[str, str]:
        """The fields of this SAE's own axes."""
        found: dict[str, str] = {}
        for name in self.combination.vary:
            place = f"vary[{name!r}]"
            if name == L0:
                raise ValueError(
                    f"{place} must not be there: say l0, or vary {L0}, for all SAEs of the suite"
                )
            field = axes.field("vary", name)
            if field.startswith(f"{WORLD}.") or field not in self.combination.known:
                raise ValueError(f"{place} must be a field of this SAE or of its training")
            if any(overlaps(field, each) for each in self.combination.own):
                raise ValueError(f"{place} must be set once, but {field} is set beside it")
            searched = {axes.fields[each] for each in axes.searched}
            if any(overlaps(field, each) for each in (*searched, *found.values())):
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
        here = self.combination
        return (
            field in here.known
            and field not in here.idle
            and not any(overlaps(field, each) for each in self._decided)
        )

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


def check_count(suite: Suite, axes: SuiteAxes, lanes: Iterable[Lane]) -> None:
    """Raise where a suite has more runs than anybody means."""
    places = math.prod(len(values) for _, values in axes.dimensions)
    own = sum(len(lane.own) for lane in lanes)
    count = places * own * max(1, len(suite.l0)) * len(suite.seeds)
    if count > MOST_RUNS:
        raise ValueError(f"a suite may have {MOST_RUNS:,} runs at most, got {count:,} combinations")
