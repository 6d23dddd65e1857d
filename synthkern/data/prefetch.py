"""Items made ahead by a background thread."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Of the threads that make items.
THREAD_NAME = "synthkern-prefetch"

#: How long an interpreter that ends waits for an item in work.
_EXIT_SECONDS = 10.0


def prefetched(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The items in order, up to ``depth`` of them made ahead by one thread of their own.

    With a depth of 0 each is made when it is asked for. Otherwise the thread starts with the first
    ``next``: while one item is handed out, the ``depth`` after it are made. What making an item
    raises is raised here, with its traceback, after the items before it. When this generator ends,
    is closed or is collected, the thread ends too, after the item in work, and is waited for;
    Ctrl-C while an item is waited for is raised at once, and the thread then ends by itself.

    Args:
        items: gone through by that thread alone.
        depth: at least 0.
    """
    if depth == 0:
        yield from items
        return
    maker = _Maker(items, depth)
    home = os.getpid()
    waits = True
    try:
        maker.start()
        while True:
            if os.getpid() != home:
                raise RuntimeError(
                    f"the thread behind this iterator stayed in process {home} at a fork: "
                    f"make a new iterator in process {os.getpid()}"
                )
            item = maker.ready.get()
            waits = False
            if isinstance(item, _End):
                item.raise_error()
                return
            maker.free.put(None)
            yield item
            waits = True
    finally:
        maker.stop()
        # Ctrl-C must not wait for the item in work, a garbage collection on the thread itself
        # cannot, and daemon threads stand still once the interpreter shuts down.
        itself = threading.current_thread() is maker
        if not (waits or itself or sys.is_finalizing()):
            maker.join()


class _End:
    """Comes after the last item, with the error that ended them, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def raise_error(self) -> None:
        """Raise the error, and keep no reference to it: its traceback refers to this frame."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error


class _Maker(threading.Thread, Generic[T]):
    """The thread, and what it shares with the consumer: queues alone, whose ``put`` is reentrant.

    The consumer's generator may be closed by a garbage collection at any point of either thread,
    where waiting for a lock could be waiting for oneself.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._items = items
        self._is_open = True
        self.ready: SimpleQueue[T | _End] = SimpleQueue()
        #: A token for every item that may be made.
        self.free: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self.free.put(None)

    def run(self) -> None:
        """Make items while there is room for them."""
        try:
            while True:
                self.free.get()
                if not self._is_open:
                    return
                self.ready.put(next(self._items))
        except StopIteration:
            self.ready.put(_End())
        except BaseException as error:
            self.ready.put(_End(error))

    def stop(self) -> None:
        """Let the thread end after the item in work."""
        self._is_open = False
        self.free.put(None)


def is_prefetching() -> bool:
    """Whether any thread of this process may be making items at this moment."""
    return bool(_makers())


def _makers() -> list[_Maker[Any]]:
    return [thread for thread in threading.enumerate() if isinstance(thread, _Maker)]


@atexit.register
def _stop_all() -> None:
    """End the threads that are left while they still can: torch aborts the process where the
    interpreter shuts down under one of its operations.
    """
    makers = _makers()
    for maker in makers:
        maker.stop()
    for maker in makers:
        maker.join(_EXIT_SECONDS)
