"""Two names in a file system, exchanged in one step."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

#: From Linux's headers: paths are relative to the working directory; both names must be there.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange_names(a: Path, b: Path) -> bool:
    """Give each of two directories the other's name, so that neither name is ever missing.

    Returns:
        Whether it was done: False, and nothing done, where the kernel, the C library or the file
        system has no such operation.

    Raises:
        OSError: with the system's reason, where it has one and refuses.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = _AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b)
    if rename(*names, ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(a), None, str(b))
