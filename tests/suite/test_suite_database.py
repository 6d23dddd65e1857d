"""The database of runs: what is noted, what stays, and its errors."""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import fill
from small_suites import small_suite

from synthkern.suite.database import LATENT_COLUMNS, Outcome, RunDatabase
from synthkern.suite.disk import database_error, is_disk_error
from synthkern.suite.plan import plan_runs
from synthkern.training import TrainingHistory

EMPTY = np.zeros(0)


def test_a_run_from_its_plan_to_its_end(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path, create=True)
    suite = small_suite()
    planned = plan_runs(suite)
    database.add(suite.name, suite.to_dict(), planned)
    assert database.suites() == {"small": suite.to_dict()}
    first, second = database.runs("small")
    assert (first.key, first.config, first.state) == (planned[0].key, planned[0].config, "pending")
    database.start(first.key, "0.1.0", 1, {"cpu": "made up"})
    assert database.state(first.key) == "running"
    database.fail(first.key, "ValueError: no")
    (failed,) = database.runs(state="failed")
    assert (failed.key, failed.error) == (first.key, "ValueError: no")
    database.reset(first.key)
    assert database.runs("small") == [
        replace(first, code_version="0.1.0", stream_version=1, hardware={"cpu": "made up"}),
        second,
    ]
    # What is known stays when the suite is noted again.
    database.start(second.key, "0.1.0", 1, {"cpu": "made up"})
    database.add(suite.name, suite.to_dict(), planned)
    assert [run.state for run in database.runs()] == ["pending", "running"]


def test_a_run_of_other_settings_takes_the_place_of_the_old(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path, create=True)
    old, new = small_suite(), small_suite(sae={"d_sae": 21})
    for suite in (old, new):
        database.add("small", suite.to_dict(), plan_runs(suite))
    assert [run.key for run in database.runs()] == [run.key for run in plan_runs(new)]
    database.add("small", old.to_dict(), plan_runs(old))
    assert [run.key for run in database.runs()] == [run.key for run in plan_runs(old)]


def test_suites_share_the_runs_that_they_have_in_common(tmp_path: Path) -> None:
    database = RunDatabase(tmp_path, create=True)
    one, other = small_suite(), small_suite(name="other", saes={"New": "gated", "Mine": "topk"})
    for suite in (one, other):
        database.add(suite.name, suite.to_dict(), plan_runs(suite))
    database.fail(plan_runs(one)[0].key, "ValueError: no")
    found = [(run.suite, run.sae, run.seed, run.state) for run in database.runs()]
    assert found == [
        ("other", "New", 0, "pending"),
        ("other", "Mine", 0, "failed"),
        ("other", "New", 1, "pending"),
        ("other", "Mine", 1, "pending"),
        ("small", "TopK", 0, "failed"),
        ("small", "TopK", 1, "pending"),
    ]


def test_runs_that_are_not_there_are_refused(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), seeds=(0,))
    before = database.runs()
    outcome = Outcome({}, {}, TrainingHistory(), dict.fromkeys(LATENT_COLUMNS, EMPTY), 1, 1, 1)
    for change in (
        lambda: database.state("none"),
        lambda: database.start("none", "0.1.0", 1, {}),
        lambda: database.finish("none", outcome),
        lambda: database.fail("none", "no"),
        lambda: database.reset("none"),
    ):
        with pytest.raises(KeyError, match="none"):
            change()
    assert list(database.curves(["none"])) == []
    assert list(database.latents(["none"])) == []
    assert database.runs() == before


def test_a_directory_without_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} must be a directory of 'synthkern"):
        RunDatabase(tmp_path)
    (tmp_path / "suite.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(OSError, match=r"suite.sqlite could not be used: file is not a database"):
        RunDatabase(tmp_path).runs()


def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "full.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE a (b BLOB)")
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError) as full:
        connection.execute("INSERT INTO a VALUES (zeroblob(100000))")
    connection.close()
    error = database_error(path, full.value)
    assert (error.errno, error.filename) == (errno.ENOSPC, str(path))
    assert is_disk_error(error)
    other = database_error(path, sqlite3.OperationalError("database is locked"))
    assert str(other) == f"{path} could not be used: database is locked"
    assert not is_disk_error(other)
