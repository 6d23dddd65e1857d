"""What a command does when nobody reads what it prints."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = subprocess.run(
        [sys.executable, "-m", "synthkern", "presets"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")
