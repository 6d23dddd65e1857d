"""Tables and requirements, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.timing import Case, Settings, Timing, interleave
from synthkern._table import text_table


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        return "\n".join([self.title, *text_table([self.columns, *self.rows], "<", rule=True)])


@dataclass(frozen=True)
class Requirement:
    """A figure that the project sets itself.

    Attributes:
        text: what is measured and required.
        value: what was measured, or None.
        bound: what is required.
        at_least: whether the value must reach the bound; else it must not exceed it.
        unit: after the value and the bound.
    """

    text: str
    value: float | None
    bound: float
    at_least: bool = True
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether it is; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def factor(self) -> float | None:
        """How far on the right side of the bound: 1 is exactly there, above 1 is better."""
        if self.value is None:
            return None
        good, bad = (self.value, self.bound) if self.at_least else (self.bound, self.value)
        return good / bad if bad > 0 else float("inf")

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        required = f"{relation} {self.bound:.4g}{self.unit} required"
        if self.value is None:
            return f"not measured  {self.text}: {required}"
        verdict = "met" if self.met else "NOT MET"
        return (
            f"{verdict:<12}  {self.text}: {self.value:.4g}{self.unit}, {required} "
            f"(factor {self.factor:.3g})"
        )


@dataclass
class Section:
    """What one section of the comparison found."""

    name: str
    tables: list[Table] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"== {self.name}"]
        parts.extend(str(table) for table in self.tables)
        parts.append("\n".join(f"checked: {line}" for line in self.checks))
        parts.append("\n".join(f"note: {line}" for line in self.notes))
        parts.append("\n".join(str(requirement) for requirement in self.requirements))
        return "\n\n".join(part for part in parts if part)

    def require(self, text: str, value: float | None, bound: float, unit: str = "x") -> None:
        """A figure that must reach a bound."""
        self.requirements.append(Requirement(text, value, bound, unit=unit))

    def require_at_most(
        self, text: str, value: float | None, bound: float, unit: str = "x"
    ) -> None:
        """A figure that must not exceed a bound."""
        self.requirements.append(Requirement(text, value, bound, at_least=False, unit=unit))

    def time(
        self,
        title: str,
        cases: Sequence[Case],
        settings: Settings,
        ours: str,
        item: str,
        key: str = "timings",
    ) -> dict[str, Timing]:
        """Time cases turn by turn: a table under ``title``, and the numbers as ``key``."""
        timings = interleave(self.name, cases, settings)
        self.tables.append(timing_table(title, timings, ours, item))
        self.data[key] = [timing.to_dict() for timing in timings.values()]
        return timings

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tables' text, as JSON types."""
        requirements = [
            asdict(requirement) | {"met": requirement.met, "factor": requirement.factor}
            for requirement in self.requirements
        ]
        return {
            "checks": self.checks,
            "notes": self.notes,
            "requirements": requirements,
            "data": self.data,
        }


def timing_table(title: str, timings: dict[str, Timing], ours: str, item: str) -> Table:
    """Times per call with quartiles, rates, and times per item in multiples of our own."""
    rows = []
    for timing in timings.values():
        seconds, ratio = timing.quartiles, timing.times(timings[ours])
        rows.append(
            (
                timing.name,
                str(timing.items),
                str(len(timing.seconds)),
                f"{seconds.median * 1e3:.4g} [{seconds.low * 1e3:.4g}, {seconds.high * 1e3:.4g}]",
                _rate(1 / timing.per_item),
                f"{ratio.median:.4g} [{ratio.low:.4g}, {ratio.high:.4g}]",
            )
        )
    columns = ("system", f"{item}s", "rounds", "ms per call", f"{item}s/s", f"time / {ours}")
    return Table(title, columns, rows)


def mib(size: float) -> str:
    """Bytes in MiB."""
    return f"{size / 2**20:,.1f} MiB"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
