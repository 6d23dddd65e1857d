"""A sweep as a table: a row for each setting of the varied fields, with its figures over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from synthkern._checks import is_number
from synthkern.suite.database import Run
from synthkern.suite.plan import axis_text
from synthkern.suite.summary import MeanStd, finite_metrics, mean_std, metric_heading, table_metrics

#: Headings of what is no metric; another field or figure is its own heading.
_HEADINGS = {
    "sae": "SAE",
    "l0": "L0 asked for",
    "sae_l0": "L0",
    "seconds": "seconds",
    "samples_per_second": "samples/s",
}

#: Fields that runs have whether or not they are varied.
_PLACE = ("world", "sae", "l0")

#: A value of a field: numbers and texts are not mixed within one.
Value = float | str | None


@dataclass(frozen=True)
class Variable:
    """A varied field, or a figure of the settings.

    Attributes:
        name: as an export has it, without ``axes/``.
        heading: in words.
        is_field: whether it is set rather than measured.
        values: one for each setting: of a field what it is, of a figure its mean over seeds.
        stds: of a figure its standard deviations over seeds, None with one; of a field none.
    """

    name: str
    heading: str
    is_field: bool
    values: list[Value]
    stds: list[float | None] = field(default_factory=list)

    @property
    def is_number(self) -> bool:
        """Whether all values that there are are numbers."""
        return not any(isinstance(value, str) for value in self.values)

    @property
    def distinct(self) -> list[Value]:
        """The values that there are, each once: numbers in order, texts as they first come."""
        found = list(dict.fromkeys(value for value in self.values if value is not None))
        return [*(sorted(found) if self.is_number else found)]

    @property
    def groups(self) -> list[Value]:
        """The distinct values, and None at the end where some settings have no such field."""
        return [*self.distinct, *([None] if None in self.values else [])]


@dataclass(frozen=True)
class Sweep:
    """The finished runs of a suite.

    Attributes:
        variables: by name; fields first.
        counts: for each setting how many runs it has, which differ in their seeds alone.
    """

    variables: dict[str, Variable]
    counts: list[int]

    @property
    def fields(self) -> list[Variable]:
        """The fields that do vary."""
        found = (each for each in self.variables.values() if each.is_field)
        return [each for each in found if len(set(each.values)) > 1]

    @property
    def figures(self) -> list[Variable]:
        """What was measured, the tables' metrics first."""
        return [each for each in self.variables.values() if not each.is_field]

    def find(self, option: str, name: str) -> Variable:
        """The variable of a name.

        A figure may be called by the last part of its name or by its heading: ``f1``,
        ``precision``, ``explained variance``.

        Raises:
            ValueError: naming the option, where no run has such a variable, or several are meant.
        """
        if name in self.variables:
            return self.variables[name]
        wanted, variables = _plain(name), self.variables.values()
        found = [each for each in variables if wanted == _plain(each.heading)] or [
            each for each in variables if wanted == _plain(each.name.rpartition("/")[2])
        ]
        if len(found) == 1:
            return found[0]
        if found:
            several = " or ".join(each.name for each in found)
            raise ValueError(f"{option} must name one figure, got {name!r}: say {several}")
        close = get_close_matches(name, self.variables, n=1)
        suggestion = f"; did you mean {close[0]}?" if close else ""
        known = ", ".join(self.variables) + ("" if self.counts else " (no run is done)")
        raise ValueError(
            f"{option} must be a field or a figure of the runs, {known}; got {name!r}{suggestion}"
        )


def read_sweep(runs: Sequence[Run]) -> Sweep:
    """The table of those runs that are done, in their order.

    Runs that differ in their seeds alone are one setting. Floors and ceilings are none: nothing of
    them is looked for.
    """
    done = [run for run in runs if run.state == "done" and run.role in ("trained", "given")]
    names = dict.fromkeys((*_PLACE, *(name for run in done for name in run.axes)))
    columns = {name: _column([_field(run, name) for run in done]) for name in names}
    settings: dict[tuple[Value, ...], list[int]] = {}
    for row, key in enumerate(zip(*columns.values(), strict=True)):
        settings.setdefault(key, []).append(row)
    rows = list(settings.values())
    variables = {
        name: Variable(name, _HEADINGS.get(name, name), True, [values[of[0]] for of in rows])
        for name, values in columns.items()
    }
    for name, found in _figures(done, rows).items():
        if name not in variables:
            values: list[Value] = [None if each is None else each.mean for each in found]
            stds = [None if each is None else each.std for each in found]
            variables[name] = Variable(name, _heading(name), False, values, stds)
    return Sweep(variables, [len(of) for of in rows])


def _figures(
    runs: Sequence[Run], settings: Sequence[Sequence[int]]
) -> dict[str, list[MeanStd | None]]:
    measured = [dict(_measured(run)) for run in runs]
    there = dict.fromkeys(name for each in measured for name in each)
    # Those of the tables first, in their order.
    names = [name for name in table_metrics(there) if name in there]
    names += [name for name in there if name not in names]
    found: dict[str, list[MeanStd | None]] = {}
    for name in names:
        over = ([measured[row][name] for row in rows if name in measured[row]] for rows in settings)
        found[name] = [mean_std(values) if values else None for values in over]
    return found


def _measured(run: Run) -> Iterator[tuple[str, float]]:
    yield from finite_metrics(run)
    for name in ("seconds", "samples_per_second"):
        value = getattr(run, name)
        if value is not None:
            yield name, value


def _field(run: Run, name: str) -> Any:
    """A field of a run, or None; names of worlds and SAEs are without what is varied.

    A value that is null is a text, which is told from a field that a run does not have.
    """
    if name in run.axes:
        return axis_text(None) if run.axes[name] is None else run.axes[name]
    return getattr(run, name) if name in _PLACE else None


def _column(values: list[Any]) -> list[Value]:
    """Values of a field as numbers, or as texts where one of them is none."""
    if all(value is None or is_number(value) for value in values):
        return values
    return [None if value is None else axis_text(value) for value in values]


def _heading(name: str) -> str:
    return _HEADINGS.get(name) or metric_heading(name)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")
