"""A suite's search: what is looked for, over what, and in how many trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from synthkern._checks import as_int, check_keys
from synthkern.evaluation.result import SyntheticDataEvalResult
from synthkern.evaluation.tree import names
from synthkern.suite.axes import MOST_RUNS, Range, read_range, whole

#: Ways in which a figure is better.
DIRECTIONS = ("maximize", "minimize")

#: Most figures that are sought after at once.
_MOST_OBJECTIVES = 2

#: Names in ``search`` that are no field's.
_OWN = ("objective", "trials", "seed", "pruning")

_PRUNING = {"curve", "direction", "startup_trials", "warmup_samples"}

#: Figures of every training step's row, and beginnings of the names of those that an SAE has.
_CURVES = (
    "loss",
    "l0",
    "explained_variance",
    "dead_latents",
    "mean_steps_since_fired",
    "mean_log10_feature_sparsity",
    "below_1e-5",
    "below_1e-6",
)
_OF_SAES = ("losses/", "coefficients/", "metrics/")
_EVALUATED = "eval/"

#: Curves that are better where they are lower.
_LOW = ("loss", "losses/", "dead_latents", "mean_steps_since_fired", "below_1e-5", "below_1e-6")


@dataclass(frozen=True)
class Pruning:
    """Ends trials that do worse than most did at the same number of samples.

    Attributes:
        curve: the figure of the training curves that is compared, by its name in a row.
        direction: of :data:`DIRECTIONS`.
        startup_trials: how many trials must have come to their end before one is ended.
        warmup_samples: of its training, that each trial has.
    """

    curve: str
    direction: str
    startup_trials: int = 5
    warmup_samples: int = 0


@dataclass(frozen=True)
class Search:
    """Trials of values that :mod:`optuna` chooses, each by what those before it gave.

    Each SAE in each world, at each L0 and each point of the other axes, has a search of its own.
    A trial is a run for each seed, and its figure the mean over these.

    Attributes:
        objectives: direction, of :data:`DIRECTIONS`, by metric; two at most.
        trials: how many each search has.
        seed: of the choices.
        ranges: that values are chosen from, by field.
        pruning: or None, where every trial comes to its end.
    """

    objectives: dict[str, str]
    trials: int
    seed: int
    ranges: dict[str, Range]
    pruning: Pruning | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        ranges = {name: {each.kind: list(each.values)} for name, each in self.ranges.items()}
        pruning = None if self.pruning is None else asdict(self.pruning)
        return {**vars(self), "ranges": ranges, "pruning": pruning}


def metric_names() -> list[str]:
    """The metrics of a run, by which a search can be guided."""
    kinds = get_type_hints(SyntheticDataEvalResult)
    known = {each.name: kinds[each.name] for each in fields(SyntheticDataEvalResult)}
    return [path for name, kind in known.items() for path in names(name, kind)]


def read_search(where: str, data: Any) -> Search | None:
    """The search that a suite asks for; None for None and an empty mapping, a search for itself.

    Args:
        where: what errors call it.
        data: ``objective``, a metric that is to be large, or a mapping of one or two metrics to
            "maximize" or "minimize"; ``trials``; ``seed`` (0 where it is not there); ``pruning``,
            a figure of the training curves or a mapping of ``curve`` and, where wanted,
            ``direction``, ``startup_trials`` and ``warmup_samples``; and for each field what
            ``random`` has for one (see :func:`read_random`).

    Raises:
        ValueError: naming what is wrong.

    Example:
        >>> from synthkern.suite.search import read_search
        >>> search = read_search(
        ...     "search", {"objective": "mcc", "trials": 20, "lr": {"log_uniform": [1e-4, 1e-2]}}
        ... )
        >>> search.objectives, search.trials
        ({'mcc': 'maximize'}, 20)
    """
    if data is None or isinstance(data, Search):
        return data
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} must be a mapping, got {data!r}")
    if not data:
        return None
    for name in ("objective", "trials"):
        if name not in data:
            raise ValueError(f"{where} must have {name}, got {sorted(map(str, data))}")
    objectives = _objectives(f"{where}.objective", data["objective"])
    ranges = {
        str(name): read_range(f"{where}[{str(name)!r}]", given)
        for name, given in data.items()
        if name not in _OWN
    }
    if not ranges:
        raise ValueError(f"{where} must have a field to search over, got {sorted(map(str, data))}")
    pruning = _pruning(f"{where}.pruning", data.get("pruning"))
    if pruning is not None and len(objectives) > 1:
        raise ValueError(
            f"{where}.pruning must not be there with two objectives, which Optuna cannot prune by, "
            f"got {list(objectives)}"
        )
    return Search(
        objectives,
        as_int(f"{where}.trials", whole(data["trials"]), low=1, high=MOST_RUNS),
        as_int(f"{where}.seed", whole(data.get("seed", 0)), low=0, high=2**64 - 1),
        ranges,
        pruning,
    )


def _objectives(where: str, data: Any) -> dict[str, str]:
    given = {data: "maximize"} if isinstance(data, str) else data
    if not isinstance(given, Mapping) or not 1 <= len(given) <= _MOST_OBJECTIVES:
        raise ValueError(
            f"{where} must be a metric, or a mapping of one or two to {' or '.join(DIRECTIONS)}, "
            f"got {data!r}"
        )
    known = metric_names()
    for name in map(str, given):
        if name not in known:
            raise ValueError(
                f"{where} must be of {', '.join(known)}; got {name!r}{_suggestion(name, known)}"
            )
    return {
        str(name): _direction(f"{where}[{str(name)!r}]", value) for name, value in given.items()
    }


def _pruning(where: str, data: Any) -> Pruning | None:
    if data is None:
        return None
    given = {"curve": data} if isinstance(data, str) else data
    check_keys(where, given, _PRUNING)
    curve = given.get("curve")
    if not isinstance(curve, str) or not _is_curve(curve):
        known = [*_CURVES, *(f"{start}NAME" for start in _OF_SAES), f"{_EVALUATED}METRIC"]
        raise ValueError(
            f"{where}.curve must be a figure of the training curves, of {', '.join(known)}; got "
            f"{curve!r}{_suggestion(str(curve), _CURVES)}"
        )
    usual = "minimize" if curve.startswith(_LOW) else "maximize"
    return Pruning(
        curve,
        _direction(f"{where}.direction", given.get("direction", usual)),
        as_int(f"{where}.startup_trials", whole(given.get("startup_trials", 5)), low=0),
        as_int(f"{where}.warmup_samples", whole(given.get("warmup_samples", 0)), low=0),
    )


def _is_curve(name: str) -> bool:
    if name.startswith(_EVALUATED):
        return name.removeprefix(_EVALUATED) in metric_names()
    return name in _CURVES or name.startswith(_OF_SAES)


def is_of_evaluation(curve: str) -> bool:
    """Whether a curve has points where evaluations during the training are asked for alone."""
    return curve.startswith(_EVALUATED)


def _direction(where: str, value: Any) -> str:
    if not isinstance(value, str) or value not in DIRECTIONS:
        raise ValueError(f"{where} must be {' or '.join(DIRECTIONS)}, got {value!r}")
    return value


def _suggestion(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=2)
    return f"; did you mean {' or '.join(close)}?" if close else ""
