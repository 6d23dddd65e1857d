"""Errors of the disk, which end a whole suite and not one run."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})

#: What SQLite says of the disk, and the system's number of that.
_OF_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
}


def is_disk_error(error: BaseException) -> bool:
    """Whether it says that nothing more can be written."""
    return isinstance(error, OSError) and error.errno in _ERRORS


def database_error(path: Path, error: sqlite3.Error) -> OSError:
    """SQLite's error as one of the system, which names the file."""
    number = _OF_SQLITE.get(str(error))
    if number is None:
        return OSError(f"{path} could not be used: {error}")
    return OSError(number, str(error), str(path))
