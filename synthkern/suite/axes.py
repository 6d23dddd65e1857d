"""What a suite varies: lists of values, and ranges that are drawn from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synthkern._checks import as_float, as_int, is_number, plain_number

#: Runs that a suite may have; more is a slip of the hand.
MOST_RUNS = 1_000_000

#: Names in ``random`` that are no field's.
_COUNT, _SEED = "count", "seed"

_KINDS = ("uniform", "log_uniform", "integers", "choices")

#: How often a point is drawn again that was drawn before.
_ATTEMPTS = 1000

#: Significant digits of a number that was drawn: a last bit of a logarithm, which is not the same
#: on all machines, must not make another run.
_DIGITS = 6


@dataclass(frozen=True)
class Range:
    """What values are drawn from.

    Attributes:
        kind: "uniform", "log_uniform", "integers" (both ends are in it) or "choices".
        values: the least and the greatest, or the choices.
    """

    kind: str
    values: tuple[Any, ...]

    def value(self, word: int) -> Any:
        """The value at a place of the range: 128 random bits."""
        if self.kind == "choices":
            return self.values[word * len(self.values) >> 128]
        low, high = self.values
        if self.kind == "integers":
            return low + (word * (high - low + 1) >> 128)
        share = (word >> 75) / 2**53
        if self.kind == "log_uniform":
            drawn = low * math.exp(share * math.log(high / low))
        else:
            drawn = low + share * (high - low)
        return self.rounded(drawn)

    def rounded(self, number: float) -> float:
        """A number of the range with no more digits than a run has in its name."""
        low, high = self.values
        return min(max(float(f"{number:.{_DIGITS}g}"), low), high)


@dataclass(frozen=True)
class RandomAxes:
    """Fields that are drawn together, a number of times.

    Attributes:
        count: of points.
        seed: of what is drawn.
        ranges: by field.
    """

    count: int
    seed: int
    ranges: dict[str, Range]

    def points(self) -> Iterator[dict[str, Any]]:
        """A value for each field, ``count`` times; no point comes twice.

        A value depends on the seed, the field's name and the point's number alone: more points
        and other fields leave it as it is, but for a point drawn again because it was there.

        Raises:
            ValueError: where there are not so many different points.
        """
        seen: set[str] = set()
        for number in range(self.count):
            for attempt in range(_ATTEMPTS):
                point = {
                    name: each.value(self._word(name, number, attempt))
                    for name, each in self.ranges.items()
                }
                text = json.dumps(point, sort_keys=True)
                if text not in seen:
                    break
            else:
                raise ValueError(
                    f"random.count must be at most the number of different points, got "
                    f"{self.count}, where there seem to be {len(seen)}"
                )
            seen.add(text)
            yield point

    def _word(self, name: str, number: int, attempt: int) -> int:
        text = f"{self.seed}/{name}/{number}/{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def read_vary(where: str, data: Any) -> dict[str, list[Any]]:
    """The lists of values by field, of which every combination is a point.

    Raises:
        ValueError: for no mapping, an empty list, or a value that stands twice.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be a mapping of fields to lists, got {data!r}")
    return {str(name): _values(f"{where}[{str(name)!r}]", values) for name, values in data.items()}


def read_random(where: str, data: Any) -> RandomAxes | None:
    """The fields that are drawn; None for an empty mapping.

    Args:
        where: what errors call it.
        data: ``count``, ``seed`` (0 where it is not there), and for each field a mapping of one of
            ``uniform``, ``log_uniform`` and ``integers`` to [low, high], or of ``choices`` to a
            list.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be a mapping of fields to ranges, got {data!r}")
    if not data:
        return None
    if _COUNT not in data:
        raise ValueError(f"{where} must have count, the number of points, got {sorted(data)}")
    ranges = {
        str(name): read_range(f"{where}[{str(name)!r}]", given)
        for name, given in data.items()
        if name not in (_COUNT, _SEED)
    }
    if not ranges:
        raise ValueError(f"{where} must have a field to draw, got {sorted(data)}")
    return RandomAxes(
        as_int(f"{where}.count", whole(data[_COUNT]), low=1, high=MOST_RUNS),
        as_int(f"{where}.seed", whole(data.get(_SEED, 0)), low=0, high=2**64 - 1),
        ranges,
    )


def axis_names(*sections: Mapping[str, Any]) -> list[str]:
    """The fields that sections of a suite vary, each once."""
    names = (name for section in sections for name in section)
    return list(dict.fromkeys(name for name in names if name not in (_COUNT, _SEED)))


def read_range(where: str, data: Any) -> Range:
    """A range as a suite says it.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(data, Mapping) or len(data) != 1 or next(iter(data)) not in _KINDS:
        raise ValueError(f"{where} must be a mapping of one of {', '.join(_KINDS)}, got {data!r}")
    ((kind, given),) = data.items()
    where = f"{where}.{kind}"
    if kind == "choices":
        return Range(kind, tuple(_values(where, given)))
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ValueError(f"{where} must be [low, high], got {given!r}")
    if kind == "integers":
        ends: list[Any] = [as_int(where, whole(end), low=-(2**63), high=2**63 - 1) for end in given]
    else:
        ends = [as_float(where, end) for end in given]
        if kind == "log_uniform" and ends[0] <= 0:
            raise ValueError(f"{where} must be above 0, got {given!r}")
    if not ends[0] < ends[1]:
        raise ValueError(f"{where} must be [low, high] with low < high, got {given!r}")
    return Range(kind, tuple(ends))


def _values(where: str, data: Any) -> list[Any]:
    if not isinstance(data, list | tuple | range):
        raise ValueError(f"{where} must be a list of values, got {data!r}")
    if not data:
        raise ValueError(f"{where} must not be empty")
    # NumPy's numbers, of a suite in Python, are written as Python's.
    values = [plain_number(value) for value in data]
    seen = set()
    for value in values:
        # To Python, 1 is equal to True as well as to 1.0.
        what = (type(value) is bool, value if is_number(value) else json.dumps(value, default=repr))
        if what in seen:
            raise ValueError(f"{where} must have every value once, got {value!r} twice")
        seen.add(what)
    return values


def whole(value: Any) -> Any:
    """1e3 as the whole number that is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
