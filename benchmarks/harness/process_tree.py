"""A process and all that it has started, killed at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants with -9, and wait until all are gone."""
    # While it stands still it starts no more of them.
    process.send_signal(signal.SIGSTOP)
    below = _descendants(process.pid)
    for number in (*below, process.pid):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    while any(_is_alive(number) for number in below):
        time.sleep(0.001)


def _descendants(number: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{number}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _is_alive(number: int) -> bool:
    """Whether a process is more than an entry that nobody has asked about."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
