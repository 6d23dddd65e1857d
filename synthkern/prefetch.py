"""Items made ahead by a background thread."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

#: Of the threads that make items.
THREAD_NAME = "synthkern-prefetch"


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
    channel: _Channel[T] = _Channel(depth)
    thread = threading.Thread(target=_fill, args=(items, channel), name=THREAD_NAME, daemon=True)
    home = os.getpid()
    waits = True
    try:
        thread.start()
        while True:
            if os.getpid() != home:
                raise RuntimeError(
                    f"the thread behind this iterator stayed in process {home} at a fork: "
                    f"make a new iterator in process {os.getpid()}"
                )
            item = channel.ready.get()
            waits = False
            if isinstance(item, _End):
                item.raise_error()
                return
            channel.free.put(None)
            yield item
            waits = True
    finally:
        channel.is_open = False
        channel.free.put(None)
        # Ctrl-C must not wait for the item in work, a garbage collection on the thread itself
        # cannot, and daemon threads stand still once the interpreter shuts down.
        itself = threading.current_thread() is thread
        if not (waits or itself or sys.is_finalizing()):
            thread.join()


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


class _Channel(Generic[T]):
    """What the two threads share: queues alone, whose ``put`` is reentrant.

    The generator may be closed by a garbage collection at any point of either thread, where
    waiting for a lock could be waiting for oneself.
    """

    def __init__(self, depth: int) -> None:
        self.is_open = True
        self.ready: SimpleQueue[T | _End] = SimpleQueue()
        #: A token for every item that may be made.
        self.free: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self.free.put(None)


def _fill(items: Iterator[T], channel: _Channel[T]) -> None:
    """Make items while there is room for them."""
    try:
        while True:
            channel.free.get()
            if not channel.is_open:
                return
            channel.ready.put(next(items))
    except StopIteration:
        channel.ready.put(_End())
    except BaseException as error:
        channel.ready.put(_End(error))
