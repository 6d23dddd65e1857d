"""A plan in words: how many runs, over what, and what they will take."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from synthkern._checks import is_number
from synthkern._table import text_table
from synthkern.suite.database import PlannedRun
from synthkern.suite.estimate import Estimate
from synthkern.suite.plan import axis_text

#: Values of an axis that are named one by one.
_FEW = 8

#: Names in a run's axes that are no field's.
_NAMES = ("world", "sae")

_WIDTH = 100


def plan_text(
    runs: Sequence[PlannedRun],
    todo: Sequence[PlannedRun],
    estimate: Estimate | None,
    *,
    jobs: int = 1,
    parts: bool = False,
) -> str:
    """The plan of a suite's runs.

    Args:
        runs: those that are chosen.
        todo: of these, those that are not done yet.
        estimate: of the latter, or None where nothing was measured.
        jobs: worker processes.
        parts: whether each SAE has a line of its own.
    """
    lines = [
        f"{runs[0].suite if runs else 'nothing'}: {_counted(len(runs), 'run')}, "
        f"{_samples(runs)} samples"
    ]
    lines += [f"  {line}" for line in _axes(runs)]
    if len(todo) < len(runs):
        lines.append(f"  left to do: {_counted(len(todo), 'run')}, {_samples(todo)} samples")
    if parts and todo:
        lines += ["", *(f"  {line}" for line in _parts(todo, estimate)), ""]
    if estimate is not None:
        lines += [
            line
            for text in estimate_lines(estimate, jobs)
            for line in textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")
        ]
    return "\n".join(lines)


def _axes(runs: Sequence[PlannedRun]) -> Iterator[str]:
    """What the runs differ in."""
    yield from _axis("world", (run.axes.get("world", run.world) for run in runs))
    yield from _axis("SAE", (run.axes.get("sae", run.sae) for run in runs))
    yield from _axis("L0", (run.l0 for run in runs if run.l0 is not None))
    yield from _axis("seed", (run.seed for run in runs))
    for name in dict.fromkeys(name for run in runs for name in run.axes if name not in _NAMES):
        yield from _axis(name, (run.axes[name] for run in runs if name in run.axes))


def _axis(name: str, values: Iterable[Any]) -> Iterator[str]:
    found = {axis_text(value): value for value in values}
    if not found:
        return
    shown = ", ".join(found)
    if len(found) > _FEW:
        shown = f"{len(found):,} values"
        if all(is_number(value) for value in found.values()):
            shown += f" from {min(found.values()):g} to {max(found.values()):g}"
    yield f"{name}: {textwrap.shorten(shown, _WIDTH - len(name) - 4, placeholder=' ...')}"


def _parts(todo: Sequence[PlannedRun], estimate: Estimate | None) -> list[str]:
    seconds = {} if estimate is None else estimate.seconds
    groups: dict[str, list[PlannedRun]] = {}
    for run in todo:
        groups.setdefault(run.axes.get("sae", run.sae), []).append(run)
    rows = [["SAE", "runs", "samples", *(["time", "a run"] if seconds else [])]]
    for name, group in groups.items():
        row = [name, f"{len(group):,}", _samples(group)]
        if seconds:
            total = sum(seconds[run.key] for run in group)
            row += [duration(total), duration(total / len(group))]
        rows.append(row)
    return text_table(rows, "<", rule=True)


def estimate_lines(estimate: Estimate, jobs: int) -> Iterator[str]:
    """What runs will take, in sentences."""
    if estimate.seconds:
        total = sum(estimate.seconds.values()) / jobs
        # The longest run is not divided.
        total = max(total, *estimate.seconds.values())
        yield f"estimated: about {duration(total)} with {_counted(jobs, 'worker process', 'es')}"
        memory = f"memory of each: {_bytes(estimate.memory)}"
        if estimate.device_memory is not None:
            memory += f", and {_bytes(estimate.device_memory)} of the GPU's"
        yield memory
        others = "; the others by their size" if estimate.measured < estimate.shapes else ""
        yield (
            f"measured just now: a few steps of {estimate.measured:,} of "
            f"{_counted(estimate.shapes, 'shape')}{others}"
        )
    else:
        yield "estimated: nothing, as no run could be measured"
    for problem, count in Counter(estimate.problems).items():
        yield f"not measured: {problem}{f' ({count} times)' * (count > 1)}"


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{plural * (count != 1)}"


def _samples(runs: Iterable[PlannedRun]) -> str:
    count = sum(run.training_samples for run in runs)
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            shown = count / size
            return f"{shown:,.0f} {word}" if shown >= 100 else f"{shown:.3g} {word}"
    return f"{count:,}"


def _bytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say them in."""
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            count = seconds / size
            return f"{count:,.{int(count < 10)}f} {word}"
    return f"{seconds:.0f} seconds"
