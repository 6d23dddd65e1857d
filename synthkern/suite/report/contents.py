"""What a report is made from: the runs of a directory, grouped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthkern.storage.paths import AnyPath
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.summary import Group, published_values, summarize

#: SAEs of a world, and worlds of a suite, that have figures of their own in a sweep.
MOST_SAES, MOST_WORLDS = 40, 100

#: Where SAEs can be compared: suite, world, L0.
Place = tuple[str, str, float | None]


@dataclass(frozen=True)
class ReportData:
    """A directory's runs.

    Attributes:
        directory: of the database.
        database: for what is read run by run.
        suites: descriptions by name.
        runs: in the suites' order.
        groups: these, summed up over seeds.
        saes: names, in the order in which they first come; their numbers are those of styles.
        hardware: what did the runs, in words, likewise.
    """

    directory: Path
    database: RunDatabase
    suites: dict[str, dict[str, Any]]
    runs: list[Run]
    groups: list[Group]
    saes: list[str]
    hardware: list[str]

    def finished(self) -> dict[Place, dict[str, list[Run]]]:
        """The finished runs, by place and SAE; they differ in their seeds alone."""
        found: dict[Place, dict[str, list[Run]]] = {}
        for run in self.runs:
            if run.state == "done":
                of_place = found.setdefault((run.suite, run.world, run.l0), {})
                of_place.setdefault(run.sae, []).append(run)
        return found

    def uncrowded(self) -> ReportData:
        """The same without what has no figures of its own: see :meth:`crowded`."""
        crowded = self.crowded()
        if not crowded:
            return self
        return replace(
            self,
            runs=[run for run in self.runs if (run.suite, run.world) not in crowded],
            groups=[each for each in self.groups if (each.suite, each.world) not in crowded],
        )

    def crowded(self) -> set[tuple[str, str]]:
        """Suites and worlds of sweeps with more SAEs in the world, or more worlds, than can be
        told apart in figures of their own.
        """
        saes: dict[tuple[str, str], set[str]] = {}
        worlds: dict[str, set[str]] = {}
        for run in self.runs:
            if run.axes:
                saes.setdefault((run.suite, run.world), set()).add(run.sae)
                worlds.setdefault(run.suite, set()).add(run.world)
        return {
            (suite, world)
            for (suite, world), there in saes.items()
            if len(there) > MOST_SAES or len(worlds[suite]) > MOST_WORLDS
        }


def read_report_data(directory: AnyPath, suite: str | None = None) -> ReportData:
    """The runs of a directory.

    Args:
        directory: of the database.
        suite: whose runs alone are wanted, or None.

    Raises:
        FileNotFoundError: where it has no database.
        ValueError: where it has no such suite.
    """
    database = RunDatabase(directory)
    suites, runs = database.suites(), database.runs(suite)
    if suite is not None:
        if suite not in suites:
            known = ", ".join(suites) or "none"
            raise ValueError(f"--suite must be one of {known}, got {suite!r}")
        suites = {suite: suites[suite]}
    groups = [
        group
        for name, description in suites.items()
        for group in summarize(
            [run for run in runs if run.suite == name], published_values(description)
        )
    ]
    return ReportData(
        directory=database.path.parent,
        database=database,
        suites=suites,
        runs=runs,
        groups=groups,
        saes=list(dict.fromkeys(run.sae for run in runs)),
        hardware=list(dict.fromkeys(in_words(run.hardware) for run in runs if run.hardware)),
    )


def in_words(hardware: Mapping[str, Any]) -> str:
    """What a run was done on, in a line; a number or a version has its name before it."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" if str(value)[:1].isdigit() else str(value)
        for name, value in hardware.items()
    )
