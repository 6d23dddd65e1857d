"""Locks of directories, by which processes that write them keep out of each other's way.

They are the system's (flock): one that holds a lock and dies holds it no longer.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

#: Seconds that a writer waits for another one of the same directory to finish.
_PATIENCE = 10.0


def lock(descriptor: int) -> bool | None:
    """Lock an open directory: whether it is now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(descriptor: int) -> None:
    """Let go of a directory and close it."""
    # A process that was forked meanwhile has it open too, so that closing would not do.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def try_lock(directory: Path) -> int | None:
    """A descriptor that holds a directory's lock; None where there is none to be had."""
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    if lock(opened) and is_at(directory, opened):
        return opened
    unlock(opened)
    return None


def take_turn(directory: Path) -> int | None:
    """A descriptor that holds the lock of a directory which is to be replaced.

    Writers of one directory so replace it in turn. Where another program keeps the lock for long,
    or the file system has none, the descriptor holds nothing; None where the directory is gone.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        locked, late = lock(opened), time.monotonic() >= deadline
        if locked is None or late or (locked and is_at(directory, opened)):
            return opened
        unlock(opened)
        time.sleep(0.005)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether a path leads to a directory that is open as ``descriptor``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
