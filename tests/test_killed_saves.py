"""Saving a model is whole or not at all, whenever the process dies and whoever else saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(script: str, place: Path, *arguments: str) -> dict[str, int]:
    """What a script beside this file prints; it makes its checks itself."""
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [sys.executable, str(path), str(place), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("how", ["exchange", "rename"])
def test_a_killed_save_leaves_the_old_directory_or_the_new_one(tmp_path: Path, how: str) -> None:
    found = run("kill_saves.py", tmp_path, how, "over")
    # Where names cannot be exchanged, the old one is for one moment only beside.
    assert found.pop("aside", 0) == (how == "rename")
    assert min(found["old"], found["new"], found["beside"]) > 10


def test_a_killed_first_save_leaves_nothing_or_the_new_directory(tmp_path: Path) -> None:
    found = run("kill_saves.py", tmp_path, "exchange", "new")
    assert min(found["old"], found["new"]) > 1


@pytest.mark.parametrize("how", ["exchange", "rename"])
def test_models_saved_to_one_directory_at_once(tmp_path: Path, how: str) -> None:
    found = run("save_at_once.py", tmp_path, how)
    assert sum(found.values()) == 80
    if how == "exchange":
        assert "-1" not in found
