"""Processes that are killed, and several at once: saves are whole, trainings end the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from places import HELPERS


def run(script: str, place: Path, *arguments: str) -> Any:
    """What a script beside this file prints; it makes its checks itself."""
    path = HELPERS / script
    done = subprocess.run(
        [sys.executable, str(path), str(place), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_save_leaves_the_old_files_or_the_new_ones(tmp_path: Path) -> None:
    found = run("kill_saves.py", tmp_path, "over")
    assert min(found["old"], found["new"], found["finished"], found["leftovers"]) > 10


def test_a_killed_first_save_leaves_nothing_or_the_new_files(tmp_path: Path) -> None:
    found = run("kill_saves.py", tmp_path, "new")
    assert min(found["old"], found["new"]) > 10


def test_models_saved_to_one_directory_at_once(tmp_path: Path) -> None:
    found = run("save_at_once.py", tmp_path)
    assert sum(found.values()) == 80


def test_a_training_that_is_killed_again_and_again(tmp_path: Path) -> None:
    for steps in run("kill_training.py", tmp_path):
        # Killed more than once, and more than once in the middle.
        assert len(steps) > 3
        assert len({step for step in steps if 0 < step < 15}) > 1
