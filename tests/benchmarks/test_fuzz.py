"""benchmarks/fuzz.py: damaged files are read or refused, and what is not is told."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from places import BENCHMARKS, run_script


def test_damaged_files(tmp_path: Path) -> None:
    done = run_script("fuzz.py", tmp_path, "--cases", "1000", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    title, _, _, *rows = done.stdout.splitlines()
    assert title == "1000 cases"
    # Nobody reads everything, and nobody refuses everything.
    counts = [[int(word) for word in row.split() if word.isdigit()] for row in rows]
    assert len(counts) == 8
    assert sum(map(sum, counts)) == 1000
    assert min(map(min, counts)) > 0


def test_what_goes_otherwise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    fuzz = importlib.import_module("fuzz")

    def outcome(read: Any) -> str | None:
        return fuzz.attempt(fuzz.Kind(lambda folder: None, read), tmp_path)

    def fail(error: BaseException) -> Any:
        def read(folder: Path) -> None:
            raise error

        return read

    assert outcome(lambda folder: None) is None
    assert outcome(fail(ValueError(f"{tmp_path}/a.json must be whole"))) is None
    assert outcome(fail(OSError(2, "no such file", f"{tmp_path}/a"))) is None
    assert "names no file" in str(outcome(fail(ValueError("a number"))))
    for error in (KeyError(3), MemoryError(), RecursionError(), TypeError()):
        assert type(error).__name__ in str(outcome(fail(error)))
    assert "took more than" in str(outcome(fail(TimeoutError())))
