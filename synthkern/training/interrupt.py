"""Ctrl-C between two things, not within one, and SIGTERM as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Ctrl-C within the block has its effect at the block's end.

    Where :func:`_handler` gives none, nothing is deferred.
    """
    before = _handler(signal.SIGINT)
    if before is None:
        yield
        return
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        came.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """SIGTERM within the block, as schedulers send it, has the effect of Ctrl-C.

    In the main thread, and where Ctrl-C has one.
    """
    before = _handler(signal.SIGTERM)
    if before is None or not callable(_handler(signal.SIGINT)):
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _handler(number: signal.Signals) -> Any:
    """What a signal has as its handler, where it can be set and put back; else None.

    Other threads than the main one get no signals, and handlers that Python did not set cannot be
    put back.
    """
    in_main = threading.current_thread() is threading.main_thread()
    return signal.getsignal(number) if in_main else None
