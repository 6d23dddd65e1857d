"""Warnings that reach both kinds of listeners: the warnings module and logging."""

from __future__ import annotations

import logging
import warnings

#: Where warnings are logged.
logger = logging.getLogger("synthkern")
# Where nobody has set logging up, the warning itself is what is shown, and once is enough.
logger.addHandler(logging.NullHandler())


def warn(message: str, *, stacklevel: int = 1) -> None:
    """Warn, and log the same under "synthkern", for programs that listen there as SAELens logs.

    Args:
        message: what is wrong.
        stacklevel: 1 blames the caller of this function, 2 the caller's caller, ...
    """
    logger.warning("%s", message, stacklevel=stacklevel + 1)
    warnings.warn(message, stacklevel=stacklevel + 1)
