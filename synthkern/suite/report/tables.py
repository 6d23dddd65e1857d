"""The tables of a report's page: rows of cells, each its HTML and what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from synthkern.suite.best import shown_variables
from synthkern.suite.database import Run
from synthkern.suite.report.contents import ReportData
from synthkern.suite.report.figure import color
from synthkern.suite.report.sweeps import SweepReport
from synthkern.suite.summary import (
    Group,
    MeanStd,
    finite_metrics,
    last_line,
    metric_heading,
    table_metrics,
)
from synthkern.suite.sweep import Value, Variable
from synthkern.suite.view import words

#: A cell: HTML, and a number or a text; None is last in either order.
Cell = tuple[str, float | str | None]

#: Decimals of a figure, where it is not a share.
_DECIMALS = {"sae_l0": 2, "dead_latents": 1, "true_l0": 2}

#: Standard deviations from a published value that are marked.
FAR = 3

#: Characters of a traceback: its end is kept.
_ERROR = 4_000

#: Settings in the table of the best.
_BEST = 100

_NONE: Cell = ("\u2013", None)


def result_table(contents: ReportData) -> dict[str, Any]:
    """The columns of means over seeds, and the rows by suite and world."""
    rows: dict[tuple[str, str], list[list[Cell]]] = {}
    metrics = table_metrics(
        name for group in contents.groups for figures in group.saes.values() for name in figures
    )
    for group in contents.groups:
        rows.setdefault((group.suite, group.world), []).extend(
            _result(contents.saes.index(sae), sae, group, metrics) for sae in group.saes
        )
    columns = [
        _column("SAE", text=True),
        _column("L0 asked for"),
        *map(_column, metrics.values()),
        _column("seeds"),
    ]
    return {"columns": columns, "rows": rows}


def _result(number: int, sae: str, group: Group, metrics: Iterable[str]) -> list[Cell]:
    figures, states = group.saes[sae], group.states[sae]
    done = states["done"]
    others = ", ".join(f"{n} {state}" for state, n in states.items() if n and state != "done")
    role = group.roles.get(sae, "trained")
    name, key = _name(sae, f'<span class="swatch" style="color:{color(number)}"></span>')
    return [
        (name if role == "trained" else name + _small(role), key),
        _l0(group.l0),
        *(_mean(name, figures.get(name), done) for name in metrics),
        (f"{done:,}" + (_small(others) if others else ""), done),
    ]


def _mean(metric: str, figure: MeanStd | None, done: int) -> Cell:
    if figure is None:
        return _NONE
    decimals = _DECIMALS.get(metric, 4)
    text = _figure(figure.mean, figure.std, decimals)
    if figure.published is not None:
        published = _figure(figure.published.mean, figure.published.std, decimals)
        text += _small(_difference(figure.difference) + published)
    if figure.count < done:
        text += _small(f"finite in {figure.count} of {done} runs")
    return text, figure.mean


def _difference(difference: float | None) -> str:
    if difference is None:
        return ""
    far = " far" if abs(difference) > FAR else ""
    return f'<span class="difference{far}">{_fixed(difference, 1, "+")}&sigma;</span> '


def run_table(contents: ReportData) -> dict[str, Any]:
    """The columns of all runs, and their rows, of which each ends with the run's details."""
    runs = contents.runs
    found = dict.fromkeys(name for run in runs for name, _ in finite_metrics(run))
    # Those of the tables first, in their order.
    metrics = [name for name in table_metrics(found) if name in found]
    metrics += [name for name in found if name not in metrics and not _is_of_list(name)]
    columns = [
        _column("state", text=True, choice=True),
        _column("suite", text=True, choice=True, visible=len(contents.suites) > 1),
        _column("world", text=True, choice=True),
        _column("SAE", text=True, choice=True),
        _column("L0 asked for", choice=True),
        _column("seed", choice=True),
        _column("row", text=True, choice=True, visible=any(r.role != "trained" for r in runs)),
        _column("key", text=True, visible=False),
        _column("error", text=True, visible=any(run.error for run in runs)),
        *(_column(metric_heading(name)) for name in metrics),
        _column("seconds"),
        _column("samples/s"),
    ]
    return {"columns": columns, "rows": [[*_run(run, metrics), _details(run)] for run in runs]}


def best_table(report: SweepReport) -> dict[str, Any]:
    """The columns of the settings that were looked for, the best first, and their rows."""
    if report.search is None:
        return {"columns": [], "rows": []}
    fields = report.sweep.fields
    figures = shown_variables("--best", report.sweep, report.search)
    columns = [
        _column("rank"),
        *(_column(each.heading, text=not each.is_number) for each in fields),
        *(_column(each.heading) for each in figures),
        _column("runs"),
    ]
    rows = [
        [
            (str(rank), rank),
            *(_setting(each.values[row]) for each in fields),
            *(_measured(each, row) for each in figures),
            (str(report.sweep.counts[row]), report.sweep.counts[row]),
        ]
        for rank, row in enumerate(report.best[:_BEST], 1)
    ]
    return {"columns": columns, "rows": rows}


def _setting(value: Value) -> Cell:
    if value is None:
        return _NONE
    return _name(value) if isinstance(value, str) else (words(value), value)


def _measured(figure: Variable, row: int) -> Cell:
    value = figure.values[row]
    if not isinstance(value, int | float):
        return _NONE
    return _single(value, figure.stds[row], _DECIMALS.get(figure.name, 4))


def _run(run: Run, metrics: list[str]) -> Iterator[Cell]:
    yield f'<button type="button" class="state {run.state}">{run.state}</button>', run.state
    for name in (run.suite, run.world, run.sae):
        yield _name(name)
    yield _l0(run.l0)
    yield str(run.seed), run.seed
    yield run.role, run.role
    yield escape(run.key), run.key
    yield _name(last_line(run.error)) if run.error else ("", None)
    known = dict(finite_metrics(run))
    for name in metrics:
        yield _single(known.get(name), run.standard_errors.get(name), _DECIMALS.get(name, 4))
    yield _single(run.seconds, None, 1)
    yield _single(run.samples_per_second, None, 0)


def _details(run: Run) -> dict[str, Any]:
    """What is shown of a run by itself: texts, numbers and what is shown as JSON."""
    l0 = "" if run.l0 is None else f", L0 = {run.l0:g}"
    error = run.error
    return {
        "run": f"{run.sae}{l0}, seed {run.seed}",
        "state": run.state,
        "suite": run.suite,
        "world": run.world,
        "key": run.key,
        "code version": run.code_version,
        "stream version": run.stream_version,
        "world's fingerprint": run.world_fingerprint,
        "its config's fingerprint": run.config_fingerprint,
        "error": error if error is None or len(error) <= _ERROR else "…" + error[1 - _ERROR :],
        "configuration": run.config,
        "hardware": run.hardware,
    }


def _column(
    heading: str, *, text: bool = False, choice: bool = False, visible: bool = True
) -> dict[str, Any]:
    """A column as DataTables has it; numbers are looked at from the greatest."""
    return {
        "title": escape(heading),
        "className": "text" if text else "",
        "searchable": text,
        "orderSequence": ["asc", "desc"] if text else ["desc", "asc"],
        "visible": visible,
        "choice": choice,
    }


def _is_of_list(metric: str) -> bool:
    """Whether it is one of many of a kind, which figures show better than columns."""
    return any(part.isdigit() for part in metric.split("/"))


def _name(name: str, before: str = "") -> Cell:
    """What anybody may have written: escaped, and whole where there is no room for it."""
    shown = escape(name)
    return f'<span class="name" title="{shown}">{before}{shown}</span>', name


def _small(text: str) -> str:
    return f"<small>{text}</small>"


def _l0(l0: float | None) -> Cell:
    return _NONE if l0 is None else (f"{l0:g}", l0)


def _single(value: float | None, error: float | None, decimals: int) -> Cell:
    return _NONE if value is None else (_figure(value, error, decimals), value)


def _figure(value: float, spread: float | None, decimals: int) -> str:
    text = _fixed(value, decimals)
    if spread is None:
        return text
    # As many decimals as its first digit needs.
    needed = math.ceil(-math.log10(spread)) if spread > 0 else 0
    error = _fixed(spread, min(8, max(decimals, needed)))
    return f'{text} <span class="spread">± {error}</span>'


def _fixed(value: float, decimals: int, sign: str = "") -> str:
    return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}".replace("-", "\u2212")
