"""The tables of a directory's results, as plain text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from synthkern._table import text_table
from synthkern.suite.baselines import Role
from synthkern.suite.published import Published
from synthkern.suite.summary import Group, MeanStd, last_line, table_metrics, with_baselines

#: Decimals of a figure, where it is not a share.
_DECIMALS = {"sae_l0": 2, "dead_latents": 1}

#: Widest column of names; a longer name gets a line of its own.
_NAMES = 24

_GAP = "  "
_PUBLISHED = "  published"
_DIFFERENCE = "  difference"

#: Above rows that were not trained.
_HEADINGS: dict[Role, str] = {"given": "given:", "floor": "floors:", "ceiling": "ceilings:"}

#: A row: its name, and what it says by metric; a heading says nothing.
_Row = tuple[str, Mapping[str, str]]


def tables(groups: Sequence[Group], *, width: int | None = None) -> str:
    """A table for each world and L0.

    Each has a row per SAE: the figures of :func:`table_metrics`, mean ± standard deviation over
    seeds, and below them the published values and how far off they are in published standard
    deviations ("+0.3 sd"), where there are some. Runs that are not done are counted under it, and
    those that failed tell why. SAEs that were given, floors and ceilings follow those that were
    trained, under headings; what no L0 can be asked of, as of logistic probes, is in the tables of
    all L0s.

    Args:
        groups: as :func:`synthkern.suite.summary.summarize_directory` gives them.
        width: columns to keep to, as far as names let it; figures that do not fit beside the
            others go below them. None is the terminal's, or 120 where there is none.

    Returns:
        The tables, or a line that says that there are none.
    """
    if not groups:
        return "no runs"
    width = width or terminal_width()
    groups = with_baselines(groups)
    several = len({group.suite for group in groups}) > 1
    return "\n\n".join(
        "\n".join(_lines(group, f"{group.suite}: " if several else "", width)) for group in groups
    )


def terminal_width() -> int:
    """Columns of the terminal, or 120 where there is none."""
    return shutil.get_terminal_size((120, 24)).columns


def _lines(group: Group, prefix: str, width: int) -> Iterator[str]:
    yield f"{prefix}{group.place}"
    yield from textwrap.wrap(_explanation(group), width)
    yield ""
    metrics = table_metrics(name for figures in group.saes.values() for name in figures)
    headings = {name: heading.replace(" ", "\n", 1) for name, heading in metrics.items()}
    yield from layout(list(_rows(group, metrics)), headings, width)
    notes = [f"published: {source}" for source in group.sources]
    notes += [*_states(group), *_failures(group, width), *_not_finite(group)]
    if notes:
        yield ""
    for note in notes:
        yield from textwrap.wrap(note, width, subsequent_indent="  ")


def _explanation(group: Group) -> str:
    done = [states["done"] for states in group.states.values()]
    low, high = min(done), max(done)
    if high == 0:
        return "no run is done yet"
    seeds = f"{low} to {high} seeds" if low != high else f"{high} seed{'s' * (high > 1)}"
    spread = "mean ± standard deviation over " if high > 1 else ""
    return f"{spread}{seeds}" + ("; sd: published standard deviations" if group.sources else "")


def _rows(group: Group, metrics: Mapping[str, str]) -> Iterator[_Row]:
    heading = "trained"
    for sae, figures in group.saes.items():
        role = group.roles.get(sae, "trained")
        if role != heading:
            heading = role
            yield _HEADINGS[role], {}
        shown = {name: figures[name] for name in metrics if name in figures}
        missing = dict.fromkeys(metrics, "-")
        yield sae, missing | {name: _text(name, each) for name, each in shown.items()}
        published = {name: each.published for name, each in shown.items() if each.published}
        if published:
            yield _PUBLISHED, {name: _text(name, each) for name, each in published.items()}
            off = {name: shown[name].difference for name in published}
            texts = {name: f"{sds:+.1f} sd" for name, sds in off.items() if sds is not None}
            if texts:
                yield _DIFFERENCE, texts


def _text(metric: str, figure: MeanStd | Published) -> str:
    decimals = _DECIMALS.get(metric, 4)
    spread = "" if figure.std is None else f" ± {figure.std:,.{decimals}f}"
    return f"{figure.mean:,.{decimals}f}{spread}"


def layout(rows: Sequence[_Row], headings: Mapping[str, str], width: int) -> Iterator[str]:
    """Rows under headings, of one line or two, in as many blocks as the width needs.

    Args:
        rows: a name and texts by column.
        headings: by column, in their order.
        width: columns of the terminal.
    """
    names = max((len(name) for name, _ in rows if len(name) <= _NAMES), default=0)
    widths = {
        column: max(
            *map(len, heading.split("\n")), *(len(texts.get(column, "")) for _, texts in rows)
        )
        for column, heading in headings.items()
    }
    block: list[str] = []
    blocks = [block]
    left = width - names
    for column in headings:
        needed = len(_GAP) + widths[column]
        if needed > left and block:
            block = []
            blocks.append(block)
            left = width - names
        block.append(column)
        left -= needed
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from _block(rows, {column: headings[column] for column in block}, names)


def _block(rows: Sequence[_Row], headings: Mapping[str, str], names: int) -> Iterator[str]:
    heads = [("", *line) for line in zip(*map(_two_lines, headings.values()), strict=True)]
    shown = [(name, [texts.get(column, "") for column in headings]) for name, texts in rows]
    shown = [
        (name, texts)
        for (name, texts), (_, given) in zip(shown, rows, strict=True)
        if any(texts) or not given
    ]
    short = [name if len(name) <= names else "" for name, _ in shown]
    cells = [(f"{name:<{names}}", *texts) for name, (_, texts) in zip(short, shown, strict=True)]
    heads = heads if any(heads[0]) else heads[1:]
    lines = text_table([*heads, *cells], "<")
    yield from lines[: len(heads)]
    for (name, _), kept, line in zip(shown, short, lines[len(heads) :], strict=True):
        if not kept:
            yield name
        yield line


def _two_lines(heading: str) -> tuple[str, str]:
    above, _, below = heading.rpartition("\n")
    return above, below


def _states(group: Group) -> Iterator[str]:
    for sae, states in group.states.items():
        total = sum(states.values())
        if states["done"] < total:
            others = [f"{count} {state}" for state, count in states.items() if count]
            yield f"{sae}: of {total} run{'s' * (total > 1)} {', '.join(others)}"


def _failures(group: Group, width: int) -> Iterator[str]:
    """Who failed and why, failures with the same message together."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in group.failed:
        seeds.setdefault((run.sae, last_line(run.error)), []).append(run.seed)
    for (sae, message), of_message in seeds.items():
        named = f"seed{'s' * (len(of_message) > 1)} {', '.join(map(str, of_message))}"
        yield f"{sae}, {named}, failed: {textwrap.shorten(message, 3 * width)}"


def _not_finite(group: Group) -> Iterator[str]:
    """Which figures are means over some runs only; one that no run has is a dash in the table."""
    for sae, figures in group.saes.items():
        done = group.states[sae]["done"]
        for metric, heading in table_metrics(figures).items():
            if metric in figures and figures[metric].count < done:
                yield f"{sae}: {heading} is finite in {figures[metric].count} of {done} runs"
