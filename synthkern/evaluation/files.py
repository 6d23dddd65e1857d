"""An evaluation on disk: figures as JSON, a row per latent as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from synthkern._checks import is_number
from synthkern.evaluation.classification import ClassificationMetrics
from synthkern.evaluation.result import (
    PerLatent,
    SyntheticDataEvalResult,
    built_metrics,
    metric_kinds,
)
from synthkern.evaluation.tree import plain
from synthkern.storage.files import (
    errors_naming,
    read_bytes,
    read_json,
    write_atomically,
    write_json,
)
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import SavedFiles, read_folder, saved_folder

EVAL_STATS_FILENAME = "eval_stats.json"
PER_LATENT_FILENAME = "eval_per_latent.csv"

#: Both belong together.
EVALUATION_FILENAMES = (EVAL_STATS_FILENAME, PER_LATENT_FILENAME)

_COLUMNS = ("matched_feature", "cosine", "precision", "recall", "f1_score", "rate")

#: After the name of a column that holds another's standard errors.
_ERROR = "_standard_error"


def write_evaluation(folder: AnyPath, result: SyntheticDataEvalResult) -> None:
    """Write a result's figures, and a table of its latents where it has one.

    What is not a number in the result is null in the JSON, and "nan" in the CSV.
    """
    with saved_folder(as_path("folder", folder), EVALUATION_FILENAMES) as place:
        write_json(place / EVAL_STATS_FILENAME, plain(result.to_dict(), _or_null))
        if result.per_latent is not None:
            _write_table(place / PER_LATENT_FILENAME, result.per_latent)


def _write_table(path: Path, latents: PerLatent) -> None:
    columns = {name: getattr(latents, name) for name in _COLUMNS}
    columns |= {f"{name}{_ERROR}": values for name, values in latents.standard_errors.items()}
    table = np.column_stack([np.arange(len(latents.rate)), *columns.values()])
    write_atomically(
        path,
        lambda to: np.savetxt(
            to,
            table,
            # As many digits as tell two numbers apart.
            fmt=["%d", "%d"] + ["%.17g"] * (len(columns) - 1),
            delimiter=",",
            header=",".join(["latent", *columns]),
            comments="",
        ),
    )


def read_evaluation(folder: AnyPath) -> SyntheticDataEvalResult:
    """The result that :func:`write_evaluation`, or SAELens' runner, wrote.

    The latter has no standard errors, and nothing of single latents.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: naming the file that is something else.
    """
    return read_folder(as_path("folder", folder), EVALUATION_FILENAMES, _read)


def _read(files: SavedFiles) -> SyntheticDataEvalResult:
    stats = files.path(EVAL_STATS_FILENAME)
    data = read_json(stats)
    of_metrics = metric_kinds()
    wanted = {f.name for f in fields(SyntheticDataEvalResult)} - {"standard_errors", *of_metrics}
    with errors_naming(stats):
        if not isinstance(data, dict) or not wanted <= data.keys():
            raise ValueError(f"this must be an evaluation with {', '.join(sorted(wanted))}")
        _check_figures({name: data[name] for name in wanted})
        values = {name: _with_nan(data[name]) for name in wanted}
        values["standard_errors"] = _with_nan(data.get("standard_errors", {}))
        values["classification"] = ClassificationMetrics(**values["classification"])
        values |= built_metrics(data)
    table = files.path(PER_LATENT_FILENAME) if files.has(PER_LATENT_FILENAME) else None
    return SyntheticDataEvalResult(
        **values, per_latent=None if table is None else _read_table(table)
    )


def _read_table(path: Path) -> PerLatent:
    with errors_naming(path):
        text = read_bytes(path).decode("utf-8")
        names = text.partition("\n")[0].rstrip("\r").split(",")
        table = np.loadtxt(StringIO(text), delimiter=",", skiprows=1, ndmin=2)
        columns: dict[str, Any] = dict(zip(names, table.reshape(-1, len(names)).T, strict=True))
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            raise ValueError(f"this must be a table of latents with {', '.join(missing)}")
        if not np.isfinite(columns["matched_feature"]).all():
            raise ValueError("matched_feature must hold whole numbers")
    matched = columns["matched_feature"].astype(np.int64)
    errors = {
        name.removesuffix(_ERROR): values
        for name, values in columns.items()
        if name.endswith(_ERROR)
    }
    return PerLatent(
        matched, **{name: columns[name] for name in _COLUMNS[1:]}, standard_errors=errors
    )


def _check_figures(data: Mapping[str, Any]) -> None:
    for name, value in data.items():
        if isinstance(value, Mapping):
            _check_figures(value)
        elif not (value is None or is_number(value)):
            raise ValueError(f"{name} must be a number or null, got {value!r}")


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nan(inner) for name, inner in value.items()}
    return math.nan if value is None else value
