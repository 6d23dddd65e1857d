"""Errors of the disk, which end a whole suite and not one run."""

from __future__ import annotations

import errno

_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def is_disk_error(error: BaseException) -> bool:
    """Whether it says that nothing more can be written."""
    return isinstance(error, OSError) and error.errno in _ERRORS
