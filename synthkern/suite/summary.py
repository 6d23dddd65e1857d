"""A directory's runs, summed up over seeds and put beside published values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from synthkern.evaluation.by_feature import BINS
from synthkern.model.fingerprint import config_fingerprint
from synthkern.suite.baselines import ROLES, Role
from synthkern.suite.database import STATES, Run, RunDatabase
from synthkern.suite.published import Published
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS

#: The figures of tables: their headings, by their names in :attr:`Run.metrics`.
TABLE_METRICS = {
    "classification/f1_score": "F1",
    "mcc": "MCC",
    "uniqueness": "uniqueness",
    "explained_variance": "explained variance",
    "sae_l0": "L0",
    "dead_latents": "dead latents",
}

#: Those that tables show besides, where a run has them.
MORE_METRICS = {
    "f1_all_features": "all-feature F1",
    "by_frequency/5/f1": "rarest-quarter F1",
    "coverage/0.8": "coverage 0.8",
    "null_mcc/calibrated_mcc": "MCC above chance",
    "splitting/split": "feature splitting",
    "hedging": "hedging",
    "absorption/full": "full absorption",
    "hierarchy_recovery/precision": "tree precision",
    "hierarchy_recovery/recall": "tree recall",
    "probe_f1/single": "probe F1",
    "shifted/classification/f1_score": "F1 out of distribution",
    "shifted/explained_variance": "explained variance out of distribution",
    "held_out/both": "held-out pairs found",
    "views/mcc/0": "MCC of view 0",
    "views/mcc/1": "MCC of view 1",
    "views/accuracy": "shared or exclusive, right",
    "views/precision": "exclusive, precision",
    "views/recall": "exclusive, recall",
    "map_recovery/edges": "edges found",
    "map_recovery/outputs": "outputs found",
    "seed_agreement": "seed agreement",
}

#: Those of a run that other seeds have a share in: their spread over seeds is none of draws.
SHARED_METRICS = {"seed_agreement"}


def table_metrics(found: Iterable[str]) -> dict[str, str]:
    """The figures of a table of runs that have those of these names, and their headings."""
    there = set(found)
    more = {name: heading for name, heading in MORE_METRICS.items() if name in there}
    return TABLE_METRICS | more


def metric_heading(name: str) -> str:
    """What a figure is called: "F1", "precision", "rarest fifth: coverage 0.5"."""
    known = TABLE_METRICS.get(name) or MORE_METRICS.get(name)
    if known is not None:
        return known
    first, *rest = name.removeprefix("classification/").split("/")
    if first == "by_frequency" and len(rest) > 1 and rest[0].isdigit() and int(rest[0]) < len(BINS):
        return f"{BINS[int(rest[0])]}: {metric_heading('/'.join(rest[1:]))}"
    words = " ".join([first, *rest]).replace("_", " ")
    return words.replace("l0", "L0").replace("f1", "F1").replace("mcc", "MCC")


@dataclass(frozen=True)
class MeanStd:
    """One figure of an SAE, over seeds.

    Attributes:
        mean: over the runs that have it.
        std: standard deviation over these (with count - 1), or None for one run and for
            :data:`SHARED_METRICS`.
        count: how many runs have it; what is not finite is none.
        published: the same figure as somebody published it, or None.
    """

    mean: float
    std: float | None
    count: int
    published: Published | None = None

    @property
    def difference(self) -> float | None:
        """Of the mean from the published one, in published standard deviations.

        None without a published value, or where its standard deviation is 0.
        """
        if self.published is None or self.published.std == 0:
            return None
        return (self.mean - self.published.mean) / self.published.std


@dataclass(frozen=True)
class Group:
    """The runs of a suite that share a world and an L0.

    Attributes:
        suite: its name.
        world: its name in the suite.
        l0: the L0 that was asked for, or None.
        saes: all figures of each SAE, by its name and then the figure's. Those are not there that
            no finished run has; an SAE without finished runs has none.
        states: for each SAE how many runs are in each of :data:`STATES`, 0 included.
        failed: the runs that failed, SAE by SAE.
        roles: of each SAE whether it was trained or given, or is a floor or a ceiling.
    """

    suite: str
    world: str
    l0: float | None
    saes: dict[str, dict[str, MeanStd]]
    states: dict[str, dict[str, int]]
    failed: list[Run]
    roles: dict[str, Role] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """World and L0 in words."""
        return place_name(self.world, self.l0)

    @property
    def sources(self) -> list[str]:
        """Where the published values beside these figures are from, each once."""
        figures = (figure for of_sae in self.saes.values() for figure in of_sae.values())
        return list(dict.fromkeys(each.published.source for each in figures if each.published))


def place_name(world: str, l0: float | None) -> str:
    """A world and the L0 that was asked for, in words: "synth-sae-bench-16k, L0 = 25"."""
    return world if l0 is None else f"{world}, L0 = {l0:g}"


def summarize(runs: Sequence[Run], published: Sequence[Published] = ()) -> list[Group]:
    """The groups of runs, in the runs' order.

    Args:
        runs: of any suites.
        published: values for the worlds and SAEs of these names, which stand beside runs on the
            world that they were measured on and no others; of several for one figure the first
            counts.
    """
    values: dict[tuple[str, str, float], list[Published]] = {}
    for each in published:
        values.setdefault((each.world, each.sae, each.l0), []).append(each)
    grouped: dict[tuple[str, str, float | None], dict[str, list[Run]]] = {}
    for run in runs:
        group = grouped.setdefault((run.suite, run.world, run.l0), {})
        group.setdefault(run.sae, []).append(run)
    return [
        Group(
            suite=suite,
            world=world,
            l0=l0,
            saes={
                sae: _figures(of_sae, [] if l0 is None else values.get((world, sae, l0), []))
                for sae, of_sae in saes.items()
            },
            states={
                sae: {state: sum(run.state == state for run in of_sae) for state in STATES}
                for sae, of_sae in saes.items()
            },
            failed=[run for of_sae in saes.values() for run in of_sae if run.state == "failed"],
            roles={sae: of_sae[0].role for sae, of_sae in saes.items()},
        )
        for (suite, world, l0), saes in grouped.items()
    ]


def with_baselines(groups: Sequence[Group]) -> list[Group]:
    """The same with SAEs in the order of their roles, those that are trained first, and with what
    was asked for no L0, but was not trained, in all groups of its suite and world that were.
    """
    asked = {(each.suite, each.world) for each in groups if each.l0 is not None}
    free: dict[tuple[str, str], Group] = {}
    found = []
    for group in groups:
        place = group.suite, group.world
        if group.l0 is None and place in asked:
            shared = [sae for sae, role in group.roles.items() if role != "trained"]
            free[place] = _part(group, shared)
            group = _part(group, [sae for sae in group.saes if sae not in shared])
        found.append(group)
    merged = [
        _ordered(
            group if group.l0 is None else _joined(group, free.get((group.suite, group.world)))
        )
        for group in found
    ]
    return [group for group in merged if group.saes]


def _part(group: Group, saes: Sequence[str]) -> Group:
    """A group with some of its SAEs, in their order."""
    return replace(
        group,
        saes={sae: group.saes[sae] for sae in saes},
        states={sae: group.states[sae] for sae in saes},
        failed=[run for run in group.failed if run.sae in saes],
        roles={sae: group.roles[sae] for sae in saes if sae in group.roles},
    )


def _joined(group: Group, more: Group | None) -> Group:
    if more is None:
        return group
    # Of one name, that of the group itself.
    others = _part(more, [sae for sae in more.saes if sae not in group.saes])
    return replace(
        group,
        saes={**group.saes, **others.saes},
        states={**group.states, **others.states},
        failed=[*group.failed, *others.failed],
        roles={**group.roles, **others.roles},
    )


def _ordered(group: Group) -> Group:
    roles = group.roles
    return _part(group, sorted(group.saes, key=lambda sae: ROLES.index(roles.get(sae, "trained"))))


def summarize_directory(database: RunDatabase) -> list[Group]:
    """The groups of all runs of a directory, each suite's beside its own published values."""
    return [
        group
        for name, description in database.suites().items()
        for group in summarize(database.runs(name), published_values(description))
    ]


def published_values(description: Mapping[str, Any]) -> list[Published]:
    """The published values of a suite's description as the database has it."""
    return [_published(each) for each in description.get("published") or ()]


def _published(data: Mapping[str, Any]) -> Published:
    """A value; one that was noted before worlds had fingerprints is of the preset of that name."""
    if "config_fingerprint" not in data and data["world"] in PRESETS:
        preset = SyntheticModelConfig.preset(data["world"])
        return Published(**data, config_fingerprint=config_fingerprint(preset))
    return Published(**data)


def last_line(error: str | None) -> str:
    """What a traceback ends with: the exception and its message."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no traceback"


def finite_metrics(run: Run) -> Iterator[tuple[str, float]]:
    """The figures of a finished run that are finite, by name."""
    if run.state == "done":
        for metric, value in run.metrics.items():
            if value is not None:
                yield metric, value


def _figures(runs: Sequence[Run], published: Sequence[Published]) -> dict[str, MeanStd]:
    """The figures of an SAE's runs, beside those published of the world that all were done on."""
    done = [run for run in runs if run.state == "done"]
    beside: dict[str, Published] = {}
    for each in published:
        if each.metric not in beside and all(_is_of(each, run) for run in done):
            beside[each.metric] = each
    return {metric: mean_std(found, beside.get(metric)) for metric, found in _values(runs).items()}


def _is_of(published: Published, run: Run) -> bool:
    """Whether a run was done on the world that a value was measured on."""
    if published.world_fingerprint is not None:
        return run.world_fingerprint == published.world_fingerprint
    known = run.config_fingerprint
    if known is None:  # of before it was noted
        known = _fingerprint_of(json.dumps(run.config.get("synthetic_model"), sort_keys=True))
    return known is not None and known == published.config_fingerprint


@lru_cache(maxsize=64)
def _fingerprint_of(source: str) -> str | None:
    """Of the config that a run has as its world, where it is one."""
    try:
        return config_fingerprint(SyntheticModelConfig.from_dict(json.loads(source)))
    except (TypeError, ValueError):
        return None


def _values(runs: Sequence[Run]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for metric, value in finite_metrics(run):
            found.setdefault(metric, []).append(value)
    return found


def _over_seeds(
    metric: str, values: Sequence[float], published: Published | None = None
) -> MeanStd:
    figure = mean_std(values, published)
    return replace(figure, std=None) if metric in SHARED_METRICS else figure


def mean_std(values: Sequence[float], published: Published | None = None) -> MeanStd:
    """One figure over runs, of which there is one at least."""
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    std = None if count == 1 else math.sqrt(squares / (count - 1))
    return MeanStd(mean, std, count, published)
