"""How many runs go side by side on one machine, and which of them on the same batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from synthkern.suite.baselines import TRAINED_AS
from synthkern.suite.database import PlannedRun
from synthkern.suite.memory import estimated_memory

#: With t threads a run goes t to the power of this as fast as with one. Two threads for one made
#: steps 1.1 and 1.3 times as fast with 512 latents in 256 dimensions, 1.6 times with 4,096 in 768;
#: the suite "quick" took 147 s with two threads and 96 s as two processes with one each.
_SCALING = 0.6

#: The share of a run that is sampling: 0.15 of a BatchTopK training, with 512 latents as with
#: 4,096, 0.04 to 0.13 of a standard one's dense start.
_SAMPLING = 0.1

#: Runs that go on the same batches unasked, at most. Eight save seven eighths of the sampling; each
#: keeps its weights and moments in memory.
_TOGETHER = 8

#: The share of the machine's memory that is counted on.
_MEMORY = 0.8


class SideBySide(NamedTuple):
    """How the runs of a suite are done on one machine.

    Attributes:
        jobs: worker processes.
        units: the runs, those together that share their batches.
    """

    jobs: int
    units: list[list[PlannedRun]]


def side_by_side(
    runs: Sequence[PlannedRun],
    *,
    jobs: int | None,
    share_batches: bool | None,
    device: str = "cpu",
    cores: int | None = None,
) -> SideBySide:
    """Choose what of ``jobs`` and ``share_batches`` is None, by what should take the least time.

    The choice depends on the runs and the machine alone, however much of them is done, so that a
    suite that goes on has the threads that it had: figures of other threads differ in the last
    bits. Runs are taken to be of equal length. On a GPU one process does everything.

    Args:
        runs: all that were asked for, done or not.
        jobs: worker processes; None for as many as pay, and as the memory holds.
        share_batches: whether runs of one world, seed and batch size share their batches; None
            where that pays, up to eight together.
        device: of worlds and SAEs.
        cores: threads of the CPU; by default those that PyTorch has.
    """
    cores = torch.get_num_threads() if cores is None else cores
    on_cpu = torch.device(device).type == "cpu"
    best: tuple[float, SideBySide] | None = None
    unasked = [1, _TOGETHER]
    for together in unasked if share_batches is None else [group_size(runs, share_batches)]:
        units = units_of(runs, together)
        longest = max((sum(run.is_trained for run in unit) for unit in units), default=0)
        for count in _counts(units, cores, on_cpu) if jobs is None else [jobs]:
            seconds = _seconds(len(units), longest, count, cores)
            if best is None or seconds < best[0]:
                best = seconds, SideBySide(count, units)
    assert best is not None
    return best[1]


def group_size(runs: Sequence[PlannedRun], share_batches: bool) -> int:
    """How many runs may share their batches where that is asked for, or refused."""
    return max(1, len(runs)) if share_batches else 1


def units_of(runs: Sequence[PlannedRun], together: int) -> list[list[PlannedRun]]:
    """The runs in groups that share their batches, of so many at most."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        if TRAINED_AS not in run.config:
            stream = [run.config[name] for name in ("synthetic_model", "seed", "batch_size")]
            shares = together > 1 and run.is_trained
            groups.setdefault(json.dumps(stream) if shares else run.key, []).append(run)
    units = [
        group[first : first + together]
        for group in groups.values()
        for first in range(0, len(group), together)
    ]
    # What needs another's outcome comes after that, in one task.
    units_by_key = {run.key: unit for unit in units for run in unit}
    for run in runs:
        if TRAINED_AS in run.config:
            unit = units_by_key.get(run.config[TRAINED_AS])
            units.append([run]) if unit is None else unit.append(run)
    return units


def _counts(units: Sequence[Sequence[PlannedRun]], cores: int, on_cpu: bool) -> Iterator[int]:
    """How many processes there may be."""
    yield 1
    if on_cpu and units:
        largest = max(map(_memory, units))
        most = min(cores, len(units), int(_MEMORY * _machine_memory() / largest))
        yield from range(2, most + 1)


def _seconds(units: int, longest: int, jobs: int, cores: int) -> float:
    """The time of so many units, of so many runs at most, in that of one run with one thread."""
    rounds = -(-units // jobs)
    alone = longest * (1 - _SAMPLING) + _SAMPLING
    return float(rounds * alone / max(1, cores // jobs) ** _SCALING)


def _memory(unit: Sequence[PlannedRun]) -> int:
    """Bytes of a process that does a unit."""
    world: Any = unit[0].config["synthetic_model"]
    numbers = world["num_features"] * world["hidden_dim"] if isinstance(world, dict) else 0
    return estimated_memory([run.config for run in unit], 4 * numbers)


def _machine_memory() -> int:
    """Bytes of this machine, or of the container."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            found.append(int(Path("/sys/fs/cgroup", file).read_text()))
    return min(found)
