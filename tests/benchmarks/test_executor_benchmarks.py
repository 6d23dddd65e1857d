"""benchmarks/ray_kills.py says what differs; benchmarks/driver_time.py measures."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from places import BENCHMARKS, run_script


def test_what_differs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    kills = importlib.import_module("ray_kills")
    rounds = [
        kills.Round(tmp_path / "a", shared=True, at_node=1, at_driver=3, same=True),
        kills.Round(tmp_path / "b", shared=False, at_node=0),
    ]
    title, _, _, *rows = str(kills.table("suite.yaml", rounds, 6, 100.0)).splitlines()
    assert title == "suite.yaml: 6 runs, 100 s in peace"
    assert [row.split() for row in rows] == [
        ["a", "yes", "1", "3", "yes"],
        ["b", "no", "0", "-", "NO"],
    ]


def test_the_drivers_time(tmp_path: Path) -> None:
    done = run_script("driver_time.py", tmp_path, "--runs", "2")
    # So few may take more than is allowed, for what is done once.
    assert done.returncode in (0, 1), done.stderr
    title, _, note, *_ = done.stdout.splitlines()
    assert title == "== 2 tiny runs in a process"
    assert note.startswith("note: planned in ")
    assert "the driver's own time a run: " in done.stdout
