"""All metrics that a result has fields of its own for, and those that are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from synthkern.evaluation.absorption import AbsorptionMetric
from synthkern.evaluation.by_feature import FeatureMetrics
from synthkern.evaluation.hedging import HedgingMetric
from synthkern.evaluation.held_out import HeldOutMetric
from synthkern.evaluation.hierarchy_recovery import HierarchyRecoveryMetric
from synthkern.evaluation.manifolds import ManifoldMetric
from synthkern.evaluation.metric import Metric
from synthkern.evaluation.null_mcc import NullMetric
from synthkern.evaluation.probing import ProbingMetric
from synthkern.evaluation.splitting import SplittingMetric
from synthkern.evaluation.views import MapMetric, ViewsMetric

#: In the order of the result's fields.
METRICS: tuple[type[Metric], ...] = (
    FeatureMetrics,
    AbsorptionMetric,
    SplittingMetric,
    HedgingMetric,
    HierarchyRecoveryMetric,
    ProbingMetric,
    NullMetric,
    ManifoldMetric,
    HeldOutMetric,
    ViewsMetric,
    MapMetric,
)

#: What evaluations in the middle of a training are asked for. They are many, their logs are kept
#: whole, and the others are many numbers or take long.
IN_TRAINING = ("f1_all_features", "coverage")


def metric_fields() -> list[str]:
    """The fields of the result that metrics give."""
    return [name for kind in METRICS for name in kind.fields]


def check_metrics(metrics: Iterable[str] | None) -> frozenset[str]:
    """The fields that are asked for; None is for all.

    Raises:
        TypeError: for anything but texts.
        ValueError: for a name of no metric.
    """
    known = metric_fields()
    if metrics is None:
        return frozenset(known)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"metrics must be names, got {name!r}")
        if name not in known:
            raise ValueError(f"metrics must be of {', '.join(known)}, got {name!r}")
    return frozenset(names)


def chosen_metrics(wanted: frozenset[str]) -> list[type[Metric]]:
    """Those that give a wanted field."""
    return [kind for kind in METRICS if not wanted.isdisjoint(kind.fields)]
