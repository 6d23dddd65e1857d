"""Claims of runs: a lock for each, which goes with the process that holds it."""

from __future__ import annotations

import os
from pathlib import Path

from synthkern.storage.saved_folder import lock, unlock


def claim(path: Path) -> int | None:
    """A descriptor that holds the lock of a file, made where it is missing; None where another
    process holds it.

    Raises:
        OSError: where the file system has no locks.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    locked = lock(opened)
    if locked:
        return opened
    os.close(opened)
    if locked is None:
        raise OSError(f"{path} must be on a file system with locks, so that no run is done twice")
    return None


def release(claimed: int) -> None:
    """Let go of what :func:`claim` gave."""
    unlock(claimed)
