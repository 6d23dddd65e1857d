"""A training killed with -9 at any moment goes on and ends with the same bits."""

from __future__ import annotations

from pathlib import Path

from test_killed_saves import run


def test_a_training_that_is_killed_again_and_again(tmp_path: Path) -> None:
    for steps in run("kill_training.py", tmp_path):
        # Killed more than once, and more than once in the middle.
        assert len(steps) > 3
        assert len({step for step in steps if 0 < step < 15}) > 1
