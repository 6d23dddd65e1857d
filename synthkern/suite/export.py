"""A directory's runs as CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkern.storage.files import write_atomically
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.summary import last_line

_FIRST = ("suite", "world", "sae", "architecture", "l0", "seed", "state")
_MIDDLE = (
    "seconds",
    "training_seconds",
    "samples_per_second",
    "code_version",
    "stream_version",
    "world_fingerprint",
    "config_fingerprint",
)
_LAST = ("error", "key", "config", "role")

#: Whole numbers from here on are texts in Parquet.
_LARGE = 2**63


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write a table of runs, a line each under a line of headings.

    Columns: ``suite``, ``world``, ``sae``, ``architecture``, ``l0``, ``seed``, ``state``; where
    fields are varied ``axes/<name>``, and ``axes/world`` and ``axes/sae``, the names without
    these; every figure that some run has, by its name in a log; their standard errors as
    ``standard_errors/<name>``; ``seconds``, ``training_seconds``, ``samples_per_second``,
    ``code_version``, ``stream_version``, ``world_fingerprint``, ``config_fingerprint``;
    ``hardware/<name>``; ``error`` (the last line of the traceback), ``key``, ``config`` as JSON,
    and ``role``: trained, given, floor or ceiling. What a run does not have, or is not finite, is
    empty.

    Raises:
        OSError: where the file cannot be written; what was there stays.
    """
    columns, rows = _table(runs)

    def write(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def check_parquet() -> None:
    """Refuse what :func:`write_parquet` could not do, before there is work to lose.

    Raises:
        ImportError: where pyarrow is not installed; it names the extra.
    """
    _pyarrow("pyarrow")


def write_parquet(path: Path, runs: Sequence[Run]) -> None:
    """Write the table of :func:`write_csv` as Parquet.

    A column has one type: whole numbers, numbers, truth values, or texts, which are JSON where a
    column has values of several types, or whole numbers of 2**63 and more. What a run does not
    have is null.

    Raises:
        ImportError: where pyarrow is not installed; it names the extra.
        OSError: where the file cannot be written; what was there stays.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    columns, rows = _table(runs)
    found = {name: _of_one_type([row.get(name) for row in rows]) for name in columns}
    # Where there is nothing, texts: Arrow's own type for it is one that few readers know.
    empty = arrow.nulls(len(rows), arrow.string())
    table = arrow.table(
        {name: empty if _is_empty(values) else values for name, values in found.items()}
    )
    write_atomically(path, lambda to: parquet.write_table(table, to))


def _is_empty(values: Sequence[Any]) -> bool:
    return all(value is None for value in values)


def _of_one_type(values: list[Any]) -> list[Any]:
    """Values as one of Arrow's types holds them."""
    types = {type(value) for value in values if value is not None}
    if types == {int} and max(abs(value) for value in values if value is not None) >= _LARGE:
        # Seeds of worlds, which the type of the other whole numbers does not hold.
        return [None if value is None else str(value) for value in values]
    if len(types) < 2:
        return values
    if types == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [
        value if value is None or isinstance(value, str) else json.dumps(value) for value in values
    ]


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            "Parquet needs pyarrow, which the extra 'parquet' brings: "
            "pip install 'synthkern[parquet]'"
        ) from error


def _table(runs: Sequence[Run]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns that runs have, and a row for each."""
    rows = [_row(run) for run in runs]
    columns = [
        *_FIRST,
        *(f"axes/{name}" for name in _names(run.axes for run in runs)),
        *_names(run.metrics for run in runs),
        *(f"standard_errors/{name}" for name in _names(run.standard_errors for run in runs)),
        *_MIDDLE,
        *_names(dict(_flat("hardware", run.hardware)) for run in runs),
        *_LAST,
    ]
    return columns, rows


def write_json(path: Path, database: RunDatabase) -> None:
    """Write all of a directory but its latents' figures.

    A mapping of ``suites``, descriptions by name, and ``runs``, a list of the fields of
    :class:`Run` and ``curves``, the rows of its :class:`TrainingHistory`. What a run does not
    have, or is not finite, is null; of a run without curves these are empty. A run is a line of
    the file, and no more than one is in memory with its curves.

    Raises:
        OSError: where the file cannot be written; what was there stays.
    """
    runs = database.runs()

    def write(to: Path) -> None:
        with to.open("w", encoding="utf-8") as file:
            file.write(f'{{"suites":{_json(database.suites())},"runs":[')
            for number, data in enumerate(_with_curves(database, runs)):
                file.write(f"{',' if number else ''}\n{_json(data)}")
            file.write("\n]}\n")

    write_atomically(path, write)


def _row(run: Run) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(run).items() if name in (*_FIRST, *_MIDDLE, "key")},
        "architecture": run.config.get("sae", {}).get("architecture"),
        "role": run.role,
        **{f"axes/{name}": _cell(value) for name, value in run.axes.items()},
        **run.metrics,
        **{f"standard_errors/{name}": value for name, value in run.standard_errors.items()},
        **dict(_flat("hardware", run.hardware)),
        "error": None if run.error is None else last_line(run.error),
        "config": _json(run.config),
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a nested mapping holds, by the way there: "hardware/gpu/name"."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _flat(f"{name}/{inner}", each)
    else:
        yield name, _cell(value)


def _cell(value: Any) -> Any:
    """What a cell of a table holds: of a list or a mapping its JSON."""
    return _json(value) if isinstance(value, list | dict) else value


def _names(mappings: Iterator[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _with_curves(database: RunDatabase, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    curves = database.curves([run.key for run in runs])
    key, history = next(curves, (None, None))
    for run in runs:
        rows = []
        if history is not None and key == run.key:
            rows = history.rows
            key, history = next(curves, (None, None))
        yield {**vars(run), "curves": rows}


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)
