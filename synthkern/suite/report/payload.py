"""What a report's page has in it, as JSON types.

Tables are as exact as the database. Of runs, figures keep 8 significant digits, seconds and samples
per second 4, standard errors 3; of what is drawn, means keep 5, curves 4, deviations and shares of
latents 2. The exports round nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from synthkern.suite.database import STATES, Run
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import LOGARITHM, Figure, short, style
from synthkern.suite.report.figures import KINDS, figures
from synthkern.suite.report.pool import Pool, pooled, pooled_configs
from synthkern.suite.summary import TABLE_METRICS, Group, MeanStd, finite_metrics

#: Characters of all tracebacks together, and the fewest of one: its end is kept.
_ERRORS, _ERROR = 1_000_000, 400


def page_payload(contents: ReportData) -> dict[str, Any]:
    """All that the page shows."""
    return {
        "saes": [style(number, name) for number, name in enumerate(contents.saes)],
        "hardware": [style(number, name) for number, name in enumerate(contents.hardware)],
        "names": {"saes": contents.saes, "hardware": contents.hardware},
        "metrics": [{"name": name, "heading": text} for name, text in TABLE_METRICS.items()],
        "groups": [_group(group) for group in contents.groups],
        **_figures(contents),
        "runs": _runs(contents.runs),
    }


def page_facts(contents: ReportData) -> dict[str, list[str]]:
    """What is said above all: a name's texts, of many the first."""
    runs = contents.runs
    counts = Counter(run.state for run in runs)
    return {
        "Suites" if len(contents.suites) > 1 else "Suite": _some(contents.suites, 6),
        "Worlds": _some((run.world for run in runs), 6),
        "Runs": [f"{counts[state]:,} {state}" for state in STATES if counts[state]] or ["none"],
        "Code version": _some((run.code_version for run in runs), 4),
        "Stream version": _some((run.stream_version for run in runs), 4),
        "Hardware": _some(contents.hardware, 4),
    }


def _some(values: Iterable[Any], most: int) -> list[str]:
    known = [str(value) for value in dict.fromkeys(values) if value not in (None, "")]
    return known[:most] + [f"and {len(known) - most:,} more"] * (len(known) > most)


def _group(group: Group) -> dict[str, Any]:
    return {
        "suite": group.suite,
        "world": group.world,
        "l0": group.l0,
        "sources": group.sources,
        "rows": [
            {
                "sae": sae,
                "states": group.states[sae],
                "figures": [_summed(figures_.get(name)) for name in TABLE_METRICS],
            }
            for sae, figures_ in group.saes.items()
        ],
    }


def _summed(figure: MeanStd | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    result: dict[str, Any] = {"mean": figure.mean, "std": figure.std, "count": figure.count}
    if figure.published is not None:
        result["published"] = [figure.published.mean, figure.published.std]
        result["difference"] = figure.difference
    return result


def _figures(contents: ReportData) -> dict[str, Any]:
    """Kinds, figures, and the places along x that many traces share, once each."""
    shared = Pool()
    return {
        "kinds": [
            {
                "name": kind.name,
                "title": kind.title,
                "caption": kind.caption,
                "legend": kind.legend,
                "layers": kind.layers,
                "axes": kind.axes,
                "named": kind.named,
                "by_l0": kind.by_l0,
            }
            for kind in KINDS
        ],
        "figures": [_figure(figure, shared) for figure in figures(contents)],
        "shared": shared.values,
        "logarithm": LOGARITHM,
    }


def _figure(figure: Figure, shared: Pool) -> dict[str, Any]:
    return {
        "kind": figure.kind.name,
        "suite": figure.suite,
        "world": figure.world,
        "l0": figure.l0,
        "panels": [
            {
                "title": panel.title,
                "log": panel.log,
                "lines": panel.lines,
                "series": [
                    [
                        series.layer,
                        series.style,
                        {
                            name: shared.number(value) if name == "x" else value
                            for name, value in series.values.items()
                        },
                    ]
                    for series in panel.series
                ],
            }
            for panel in figure.panels
        ],
    }


def _runs(runs: Sequence[Run]) -> dict[str, Any]:
    """The runs by column."""
    figures_of = [dict(finite_metrics(run)) for run in runs]
    names = dict.fromkeys(name for found in figures_of for name in found)
    metrics = [name for name in TABLE_METRICS if name in names]
    metrics += [name for name in names if name not in TABLE_METRICS]
    return {
        "count": len(runs),
        "states": list(STATES),
        "state": [STATES.index(run.state) for run in runs],
        "key": [run.key for run in runs],
        "suite": pooled(run.suite for run in runs),
        "world": pooled(run.world for run in runs),
        "sae": pooled(run.sae for run in runs),
        "l0": [run.l0 for run in runs],
        "seed": [run.seed for run in runs],
        "seconds": _column((run.seconds for run in runs), 4),
        "samples_per_second": _column((run.samples_per_second for run in runs), 4),
        "metrics": [
            {
                "name": name,
                "heading": _heading(name),
                "values": _column((found.get(name) for found in figures_of), 8),
                "errors": _column((run.standard_errors.get(name) for run in runs), 3),
            }
            for name in metrics
        ],
        "hardware": pooled(run.hardware for run in runs),
        "code_version": pooled(run.code_version for run in runs),
        "stream_version": pooled(run.stream_version for run in runs),
        "error": _errors(runs),
        "config": pooled_configs([run.config for run in runs]),
    }


def _heading(metric: str) -> str:
    return TABLE_METRICS.get(
        metric, metric.rpartition("/")[2].replace("_", " ").replace("l0", "L0")
    )


def _column(values: Iterable[float | None], digits: int) -> list[float | int | None]:
    return short([float("nan") if value is None else value for value in values], digits)


def _errors(runs: Sequence[Run]) -> dict[str, Any]:
    """Tracebacks; of many long ones the ends."""
    found = pooled(run.error for run in runs)
    most = max(_ERROR, _ERRORS // len(found["values"])) if found["values"] else 0
    found["values"] = [
        text if text is None or len(text) <= most else "…" + text[-most:]
        for text in found["values"]
    ]
    return found
