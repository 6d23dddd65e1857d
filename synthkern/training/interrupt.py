"""Ctrl-C between two things, not within one, and SIGTERM as Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Ctrl-C within the block has its effect at the block's end, and SIGTERM that has a handler.

    Where :func:`_handler` gives none, nothing is deferred, nor is what is ignored.
    """
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := _handler(number))
        or (number == signal.SIGINT and handler is signal.SIG_DFL)
    }
    if not before:
        yield
        return
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        came.append(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in dict.fromkeys(came):
            signal.raise_signal(each)


@contextmanager
def termination_interrupts(grace: float = 1.0) -> Iterator[None]:
    """SIGTERM within the block, as schedulers send it, has the effect of Ctrl-C, once.

    In the main thread. Where SIGINT is ignored, as in what a batch script starts with ``&``,
    SIGTERM has the effect all the same. A handler of the user's own for SIGINT stays.

    Args:
        grace: seconds after the first of the two signals in which more of them change nothing:
            schedulers and terminals send them to a process and to its parent, who passes them on.
    """
    before: dict[signal.Signals, Any] = {}
    if _handler(signal.SIGTERM) not in (None, signal.SIG_IGN):
        before[signal.SIGTERM] = _handler(signal.SIGTERM)
    if _handler(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.default_int_handler
    last: float | None = None

    def interrupt(number: int, frame: Any) -> None:
        nonlocal last
        del number, frame
        if last is None or time.monotonic() - last > grace:
            last = time.monotonic()
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handler(number: signal.Signals) -> Any:
    """What a signal has as its handler, where it can be set and put back; else None.

    Other threads than the main one get no signals, and handlers that Python did not set cannot be
    put back.
    """
    in_main = threading.current_thread() is threading.main_thread()
    return signal.getsignal(number) if in_main else None
