"""Saving a model is whole or not at all, whenever the process dies and whoever else saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from places import HELPERS


def run(script: str, place: Path, *arguments: str) -> dict[str, int]:
    """What a script beside this file prints; it makes its checks itself."""
    path = HELPERS / script
    done = subprocess.run(
        [sys.executable, str(path), str(place), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_killed_save_leaves_the_old_files_or_the_new_ones(tmp_path: Path) -> None:
    found = run("kill_saves.py", tmp_path, "over")
    assert min(found["old"], found["new"], found["finished"], found["leftovers"]) > 10


def test_a_killed_first_save_leaves_nothing_or_the_new_files(tmp_path: Path) -> None:
    found = run("kill_saves.py", tmp_path, "new")
    assert min(found["old"], found["new"]) > 10


def test_models_saved_to_one_directory_at_once(tmp_path: Path) -> None:
    found = run("save_at_once.py", tmp_path)
    assert sum(found.values()) == 80
