"""Reading the files of a directory as they were together, while others may replace it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from synthkern.directory_lock import is_at

_Read = TypeVar("_Read")

#: How often a directory is read while others keep replacing it.
_ATTEMPTS = 20


def read_steadily(directory: Path | str, read: Callable[[Path], _Read]) -> _Read:
    """What ``read`` makes of a directory that stayed in its place meanwhile.

    Raises:
        OSError: where there is no such directory, or it was replaced during every attempt; and
            whatever ``read`` raises about a directory that stayed.
    """
    folder = Path(directory)
    for _ in range(_ATTEMPTS):
        # While it is open, no other directory can be taken for it.
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = read(folder)
        except (ValueError, OSError):
            if is_at(folder, opened):
                raise
        else:
            if is_at(folder, opened):
                return found
        finally:
            os.close(opened)
    raise OSError(errno.EAGAIN, "other processes keep replacing the directory", str(folder))
