"""A directory's runs as CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import errno
import json
import math
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import PUBLISHED, fill, fill_sweep
from suite_runs import run

from synthkern.storage.files import write_atomically
from synthkern.suite.database import LATENT_COLUMNS, Outcome, Run, RunDatabase
from synthkern.suite.export import check_parquet, write_csv, write_json, write_parquet
from synthkern.suite.summary import TABLE_METRICS
from synthkern.training import TrainingHistory


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_line_per_run_and_a_column_per_figure(tmp_path: Path) -> None:
    runs = [
        replace(
            run(
                "A, wide", 0, config={"sae": {"architecture": "topk"}, "name": 'said "é"'}, mcc=0.1
            ),
            standard_errors={"mcc": 0.01},
            hardware={"cpu": "made up", "gpu": {"name": "none", "ids": [0, 1]}},
        ),
        run("B", 1, None, f1=None, mcc=None, state="done"),
    ]
    write_csv(tmp_path / "runs.csv", runs)
    text = (tmp_path / "runs.csv").read_text(encoding="utf-8")
    assert text.count("\n") == 3
    assert text.splitlines()[0] == (
        "suite,world,sae,architecture,l0,seed,state,mcc,classification/f1_score,"
        "standard_errors/mcc,seconds,training_seconds,samples_per_second,code_version,"
        "stream_version,world_fingerprint,config_fingerprint,hardware/cpu,hardware/gpu/name,"
        "hardware/gpu/ids,error,key,config,role"
    )
    first, second = rows_of(tmp_path / "runs.csv")
    assert json.loads(first.pop("config")) == runs[0].config
    assert first == {
        "suite": "mine",
        "world": "world",
        "sae": "A, wide",
        "architecture": "topk",
        "l0": "25.0",
        "seed": "0",
        "state": "done",
        "mcc": "0.1",
        "classification/f1_score": "",
        "standard_errors/mcc": "0.01",
        "seconds": "3.0",
        "training_seconds": "2.0",
        "samples_per_second": "100.0",
        "code_version": "0.1.0",
        "stream_version": "1",
        "world_fingerprint": 64 * "a",
        "config_fingerprint": "",
        "hardware/cpu": "made up",
        "hardware/gpu/name": "none",
        "hardware/gpu/ids": "[0,1]",
        "error": "",
        "key": runs[0].key,
        "role": "trained",
    }
    # Not finite, not there and not asked for are all empty.
    empty = {name for name, value in second.items() if value == ""}
    assert empty == {
        "l0",
        "mcc",
        "classification/f1_score",
        "standard_errors/mcc",
        "hardware/gpu/name",
        "hardware/gpu/ids",
        "config_fingerprint",
        "error",
    }


def test_csv_says_in_one_line_why_a_run_failed(tmp_path: Path) -> None:
    error = 'Traceback:\n  File "x"\nValueError: no, thanks\n'
    write_csv(tmp_path / "runs.csv", [run(state="failed", error=error)])
    assert (tmp_path / "runs.csv").read_text().count("\n") == 2
    (row,) = rows_of(tmp_path / "runs.csv")
    assert (row["state"], row["error"]) == ("failed", "ValueError: no, thanks")


def test_csv_of_no_runs_is_a_line_of_headings(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", [])
    text = (tmp_path / "runs.csv").read_text()
    assert text.startswith("suite,world,sae,")
    assert text.endswith(",key,config,role\n")
    assert text.count("\n") == 1


def test_csv_of_a_directory(tmp_path: Path) -> None:
    runs = fill(tmp_path).runs()
    write_csv(tmp_path / "runs.csv", runs)
    rows = rows_of(tmp_path / "runs.csv")
    assert [row["key"] for row in rows] == [each.key for each in runs]
    for row, each in zip(rows, runs, strict=True):
        assert {name: float(row[name]) for name in TABLE_METRICS} == {
            name: each.metrics[name] for name in TABLE_METRICS
        }


def no_constant(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constant)


def test_json_has_everything_of_a_directory(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0, None), seeds=(0, 1))
    database.add("empty", {"name": "empty"}, [])
    runs = database.runs()
    database.fail(runs[1].key, "ValueError: no")
    write_json(tmp_path / "runs.json", database)
    data = read(tmp_path / "runs.json")
    assert data.keys() == {"suites", "runs"}
    assert list(data["suites"]) == ["made-up", "empty"]
    assert data["suites"]["made-up"]["published"] == PUBLISHED
    curves = dict(database.curves([each.key for each in runs]))
    for found, each in zip(data["runs"], database.runs(), strict=True):
        assert found.pop("curves") == curves[each.key].rows
        assert found.keys() == {field.name for field in fields(Run)}
        assert Run(**found) == each


def test_json_of_runs_without_curves_or_finite_figures(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",))
    done = database.runs()[0]
    outcome = Outcome(
        metrics={**done.metrics, "mcc": math.nan, "uniqueness": math.inf},
        standard_errors={"mcc": math.nan},
        history=TrainingHistory([{"step": 1, "samples": 10}]),
        latents={name: np.zeros(2) for name in LATENT_COLUMNS},
        seconds=1.0,
        training_seconds=1.0,
        samples_per_second=1.0,
    )
    database.finish(done.key, outcome)
    for suite in ("another", "z"):
        database.add(suite, {}, [replace(done, suite=suite, key=f"of {suite}")])
    write_json(tmp_path / "runs.json", database)
    data = read(tmp_path / "runs.json")
    assert [len(found["curves"]) for found in data["runs"]] == [0, 1, 10, 10, 0]
    metrics, errors = data["runs"][1]["metrics"], data["runs"][1]["standard_errors"]
    assert (metrics["mcc"], metrics["uniqueness"], errors["mcc"]) == (None, None, None)
    assert metrics["sae_l0"] == done.metrics["sae_l0"]
    assert data["runs"][0]["metrics"] == {}


def test_json_of_an_empty_directory(tmp_path: Path) -> None:
    write_json(tmp_path / "runs.json", RunDatabase(tmp_path, create=True))
    assert read(tmp_path / "runs.json") == {"suites": {}, "runs": []}


def test_a_file_that_cannot_be_written_is_named_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.json"
    database = fill(tmp_path, seeds=(0,))
    write_json(path, database)
    before, names = path.read_bytes(), sorted(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("synthkern.storage.files.os.fsync", full)
    for write in (
        lambda: write_json(path, database),
        lambda: write_csv(path, database.runs()),
        lambda: write_atomically(path, lambda to: None),
    ):
        with pytest.raises(OSError, match=r"No space left on device: '.*/runs\.json'"):
            write()
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == names


def test_parquet_has_the_rows_of_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    database = fill_sweep(tmp_path)
    database.fail(database.runs()[0].key, "Error: x")
    runs = database.runs()
    runs[1].axes["hidden_dim"] = "wide"
    for each in runs[2:]:
        each.axes["world.seed"] = 2**64 - 1
    write_parquet(tmp_path / "runs.parquet", runs)
    write_csv(tmp_path / "runs.csv", runs)
    table = parquet.read_table(tmp_path / "runs.parquet")
    lines = rows_of(tmp_path / "runs.csv")
    assert table.column_names == list(lines[0])
    for found, line in zip(table.to_pylist(), lines, strict=True):
        assert {name: "" if value is None else str(value) for name, value in found.items()} == line
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["seed"], types["mcc"], types["axes/hidden_dim"]) == ("int64", "double", "string")


def test_parquet_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'synthkern\[parquet\]'"):
        check_parquet()
