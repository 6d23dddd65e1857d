"""What of a sweep is looked at: what goes to the right, up, into colours and into panels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synthkern.suite.summary import TABLE_METRICS
from synthkern.suite.sweep import Sweep, Value, Variable

#: Values of what is in panels, and of what is in colours that are told apart one by one.
MOST_PANELS, MOST_COLORS = 12, 40

#: Values of numbers above which colours are a scale.
MOST_NUMBERS = 8


@dataclass(frozen=True)
class ViewOptions:
    """A view as somebody asks for it; None is for the sweep to say.

    Attributes:
        x: name of a field or a figure.
        y: names, of which each is in panels of its own.
        colour: a name, or "none".
        facet: likewise, of a field.
    """

    x: str | None = None
    y: tuple[str, ...] = ()
    colour: str | None = None
    facet: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything is asked for."""
        return self != ViewOptions()


@dataclass(frozen=True)
class View:
    """What of a sweep is looked at; see :class:`ViewOptions`."""

    x: Variable
    y: list[Variable]
    colour: Variable | None
    facet: Variable | None

    @property
    def is_scale(self) -> bool:
        """Whether colours are those of a scale, and not of names."""
        return self.colour is not None and is_scale(self.colour)

    def panels(self) -> Iterator[tuple[str, Variable, list[int]]]:
        """Titles, what goes up, and the settings that have it and what goes to the right."""
        values: list[Value] = [None] if self.facet is None else self.facet.groups
        for value in values:
            for y in self.y:
                rows = [
                    row
                    for row in range(len(self.x.values))
                    if self.x.values[row] is not None
                    and y.values[row] is not None
                    and (self.facet is None or self.facet.values[row] == value)
                ]
                where = "" if self.facet is None else f", {self.facet.heading} = {words(value)}"
                yield f"{y.heading}{where}", y, rows

    def of(self, sweep: Sweep) -> View:
        """The same of another sweep, which has the same variables."""
        found = sweep.variables
        return View(
            found[self.x.name],
            [found[each.name] for each in self.y],
            None if self.colour is None else found[self.colour.name],
            None if self.facet is None else found[self.facet.name],
        )

    def series(self, rows: Sequence[int]) -> Iterator[tuple[int, str | None, list[int]]]:
        """The settings of each colour, with its number and its name; those of one value of x
        follow each other.

        Where colours are a scale, or are not asked for, all are together, and have no name.
        """
        place = {value: number for number, value in enumerate(self.x.distinct)}
        ordered = sorted(rows, key=lambda row: place[self.x.values[row]])
        if self.colour is None or self.is_scale:
            yield 0, None, ordered
            return
        for number, value in enumerate(self.colour.groups):
            found = [row for row in ordered if self.colour.values[row] == value]
            if found:
                yield number, words(value), found

    def is_line(self, sweep: Sweep, rows: Sequence[int]) -> bool:
        """Whether settings differ in x alone, of what is not shown: a line may join them."""
        shown = {each.name for each in (self.x, self.colour, self.facet) if each is not None}
        others = [each for each in sweep.fields if each.name not in shown]
        return (
            self.x.is_field
            and not self.is_scale
            and all(len({each.values[row] for row in rows}) == 1 for each in others)
        )


def is_scale(variable: Variable) -> bool:
    """Whether a variable's colours are those of a scale."""
    return variable.is_number and len(variable.distinct) > MOST_NUMBERS


def default_x(sweep: Sweep) -> Variable:
    """The varied field that comes first and is a number, else the L0 that was measured."""
    fields = [each for each in sweep.fields if each.name not in ("world", "sae", "l0")]
    fields = [each for each in fields if each.is_number] or fields
    return fields[0] if fields else sweep.find("--x", "sae_l0")


def choose_view(sweep: Sweep, options: ViewOptions) -> View:
    """The view of a sweep that is asked for.

    Without more said, the first varied field that is a number goes to the right, the tables'
    metrics go up, and each SAE has a colour.

    Raises:
        ValueError: naming the option that names no field or figure, or what cannot be shown so.
    """
    x = default_x(sweep) if options.x is None else sweep.find("--x", options.x)
    names = options.y or [name for name in default_y(sweep) if name != x.name]
    y = [sweep.find("--y", name) for name in names]
    for each in y:
        if not each.is_number or not each.distinct:
            raise ValueError(f"--y must name numbers, but {each.name} has texts")
    colour = _grouping(sweep, "--colour", "sae" if options.colour is None else options.colour)
    facet = _grouping(sweep, "--facet", options.facet or "none")
    if colour is not None and not is_scale(colour) and len(colour.distinct) > MOST_COLORS:
        raise ValueError(
            f"--colour must have {MOST_COLORS} values at most or be a number, but {colour.name} "
            f"has {len(colour.distinct)}"
        )
    if facet is not None and not facet.is_field:
        raise ValueError(f"--facet must be a field, but {facet.name} is measured")
    if facet is not None and len(facet.distinct) > MOST_PANELS:
        raise ValueError(
            f"--facet must have {MOST_PANELS} values at most, but {facet.name} has "
            f"{len(facet.distinct)}"
        )
    return View(x, y, colour, facet)


def default_y(sweep: Sweep) -> list[str]:
    """The tables' metrics that there are, but the L0."""
    return [name for name in TABLE_METRICS if name in sweep.variables and name != "sae_l0"]


def words(value: Value) -> str:
    """A value as a label has it."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _grouping(sweep: Sweep, option: str, name: str) -> Variable | None:
    return None if name == "none" else sweep.find(option, name)
