"""The best settings of a sweep, of those that keep to conditions."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from synthkern.suite.sweep import Sweep, Variable

#: What is looked for where nothing else is said, in suites that ask for L0s.
DEFAULT_BEST = "mcc where l0 within 5% of asked"

_HOW = (
    "[highest | lowest] FIGURE [where FIGURE (< | <= | > | >= | = | within P% of) NUMBER and ...]"
)

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}

_CONDITION = re.compile(
    r"(?P<name>.+?)\s*(?:(?P<sign><=|>=|<|>|=)|\s(?P<within>within)\s+(?P<percent>\S+?)\s*%\s*of\s)"
    r"\s*(?P<target>\S+)"
)

#: In a condition: the L0 that was asked for, instead of a number.
_ASKED = "asked"


@dataclass(frozen=True)
class Condition:
    """What a setting must keep to.

    Attributes:
        name: of a figure or a field; ``l0`` is the measured one.
        sign: "<", "<=", ">", ">=" or "="; or "within".
        target: a number, or None for the L0 that the setting asks for.
        share: of the target, for "within".
    """

    name: str
    sign: str
    target: float | None
    share: float = 0.0

    def __str__(self) -> str:
        target = "the L0 asked for" if self.target is None else f"{self.target:g}"
        sign = self.sign if self.sign in _SIGNS else f"within {100 * self.share:g}% of"
        return f"{self.name} {sign} {target}"

    def holds(self, value: float, target: float) -> bool:
        """Whether a value keeps to it."""
        if self.sign in _SIGNS:
            return _SIGNS[self.sign](value, target)
        return abs(value - target) <= self.share * abs(target)


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        name: of the figure.
        is_lowest: whether less of it is better.
        conditions: all of which hold.
    """

    name: str
    is_lowest: bool
    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        where = " and ".join(map(str, self.conditions))
        found = f"{'lowest' if self.is_lowest else 'highest'} {self.name}"
        return f"{found} where {where}" if where else found


def parse_search(option: str, text: str) -> Search:
    """What a text such as "mcc where l0 within 5% of 25" looks for.

    Before the figure there may be ``highest``, which is meant where nothing is said, or
    ``lowest``; conditions follow each other with ``and``. ``asked`` stands for the L0 that a
    setting asks for.

    Raises:
        ValueError: naming the option and the part that cannot be read.
    """
    wanted, where, rest = re.sub(r"\s+", " ", text.strip()).partition(" where ")
    order, _, name = wanted.partition(" ")
    if order not in ("highest", "lowest"):
        order, name = "highest", wanted
    if not name or re.search(r"[<>=%]", name) or name.endswith(" where"):
        raise ValueError(f"{option} must be {_HOW}, got {text!r}")
    conditions = tuple(_condition(option, part) for part in rest.split(" and ")) if where else ()
    return Search(name, order == "lowest", conditions)


def best_settings(option: str, sweep: Sweep, search: Search) -> list[int]:
    """The settings that keep to the conditions, the best first; those of a value in their order.

    Figures are means over seeds.

    Raises:
        ValueError: naming the option, where no run has a figure that is named.
    """
    wanted = _number(option, sweep, search.name)
    conditions = [
        (condition, _number(option, sweep, condition.name)) for condition in search.conditions
    ]
    asked = sweep.variables["l0"].values
    found: list[tuple[float, int]] = []
    for row in range(len(sweep.counts)):
        value = wanted.values[row]
        holds = (
            _holds(condition, variable.values[row], asked[row])
            for condition, variable in conditions
        )
        if isinstance(value, int | float) and all(holds):
            found.append((value if search.is_lowest else -value, row))
    return [row for _, row in sorted(found)]


def shown_variables(option: str, sweep: Sweep, search: Search) -> list[Variable]:
    """What a table of these settings shows: what is looked for, conditions, and F1, MCC and L0."""
    names = [search.name, *(condition.name for condition in search.conditions)]
    found = [_number(option, sweep, name) for name in names]
    common = ("classification/f1_score", "mcc", "sae_l0")
    found += [sweep.variables[name] for name in common if name in sweep.variables]
    return list({each.name: each for each in found if not each.is_field}.values())


def _holds(condition: Condition, value: object, asked: object) -> bool:
    target = asked if condition.target is None else condition.target
    if not isinstance(value, int | float) or not isinstance(target, int | float):
        return False
    return condition.holds(value, target)


def _condition(option: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{option} must be {_HOW}, but {text!r} is no condition")
    share = 0.0
    if match["within"]:
        share = _as_number(option, match["percent"]) / 100
        if share < 0:
            raise ValueError(f"{option} must have a percentage of 0 or more, got {text!r}")
    target = None if match["target"] == _ASKED else _as_number(option, match["target"])
    return Condition(match["name"], match["sign"] or "within", target, share)


def _as_number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{option} must have a number where it has {text!r}")
    return value


def _number(option: str, sweep: Sweep, name: str) -> Variable:
    # The L0 that is asked for says little of what came out.
    measured = name.lower() == "l0" and "sae_l0" in sweep.variables
    found = sweep.find(option, "sae_l0" if measured else name)
    if not found.is_number:
        raise ValueError(f"{option} must look at numbers, but {found.name} has texts")
    return found
