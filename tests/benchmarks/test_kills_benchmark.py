"""benchmarks/kills.py: a suite that is killed ends with the figures that it has in peace."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from made_up_runs import fill
from places import BENCHMARKS, run_script
from small_suites import write_suite

from synthkern.suite.database import RunDatabase


def test_two_kills(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    done = run_script("kills.py", tmp_path, "--suite", suite.name, "--kills", "2", "--seed", "4")
    assert done.returncode == 0, done.stderr
    title, headings, _, *rows = done.stdout.splitlines()
    assert title.startswith(f"{suite}: 2 runs, ")
    assert title.endswith(" s in peace; 2 kills")
    assert headings.split() == ["directory", "kills", "runs", "done", "at", "each", "the", "same"]
    assert all(row.endswith("yes") for row in rows)


def test_what_differs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    kills = importlib.import_module("kills")
    for name, shift, rows in (("a", 0.0, 5), ("b", 0.0, 5), ("c", 1e-12, 5), ("d", 0.0, 6)):
        fill(tmp_path / name, seeds=(0,), shift=shift, rows=rows)
    found = [kills.outcomes(tmp_path / name) for name in "abcd"]
    assert [each == found[0] for each in found] == [True, True, False, False]
    RunDatabase(tmp_path / "b").fail(next(iter(found[1])), "no")
    assert kills.outcomes(tmp_path / "b") != found[0]
    directories = [kills.Directory(tmp_path / name, [0, 2], name == "a") for name in "ac"]
    text = str(kills.table("suite.yaml", directories, 6, 100.0))
    assert text.splitlines()[0] == "suite.yaml: 6 runs, 100 s in peace; 4 kills"
    assert [line.split()[-1] for line in text.splitlines()[3:]] == ["yes", "NO"]
