"""Items made ahead by a thread: their order, their number, and the errors of making them."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Iterator
from itertools import count

import pytest
import torch

from synthkern.data.prefetch import THREAD_NAME, prefetched

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

#: Seconds after which a test that would hang fails instead.
PATIENCE = 60


@pytest.mark.parametrize("depth", [0, 1, 2, 7])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_the_items_come_in_order_and_end(depth: int, length: int) -> None:
    items = prefetched(iter(range(length)), depth)
    assert list(items) == list(range(length))
    assert list(items) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_as_many_are_made_ahead_as_were_asked_for(depth: int) -> None:
    begun = threading.Semaphore(0)
    numbers: list[int] = []

    def source() -> Iterator[int]:
        for number in count():
            numbers.append(number)
            begun.release()
            yield number

    items = prefetched(source(), depth)
    assert numbers == []
    assert next(items) == 0
    for _ in range(1 + depth):
        assert begun.acquire(timeout=PATIENCE)
    for number in range(1, 5):
        assert next(items) == number
        assert begun.acquire(timeout=PATIENCE)
    # Time in which one too many would be begun.
    assert not begun.acquire(timeout=0.05)
    items.close()
    assert numbers == list(range(5 + depth))


def test_one_thread_makes_them_all() -> None:
    torch.set_num_threads(3)
    items = prefetched(
        ((threading.current_thread(), torch.get_num_threads()) for _ in range(20)), 2
    )
    seen = set(items)
    assert len(seen) == 1
    (thread, threads) = seen.pop()
    assert thread.name == THREAD_NAME
    assert thread.daemon
    # What the consumer has set, though OpenMP has such a number for every thread.
    assert threads == 3


def test_without_a_depth_the_consumer_makes_them() -> None:
    items = prefetched((threading.current_thread() for _ in count()), 0)
    assert next(items) is threading.current_thread()


def failing(after: int, error: BaseException) -> Iterator[int]:
    yield from range(after)
    raise error


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("after", [0, 1, 6])
def test_an_error_comes_after_the_items_before_it(depth: int, after: int) -> None:
    items = prefetched(failing(after, ArithmeticError("the seventh")), depth)
    assert [next(items) for _ in range(after)] == list(range(after))
    with pytest.raises(ArithmeticError, match=r"^the seventh$") as caught:
        next(items)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "failing"
    assert caught.value.__context__ is None
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_errors_that_end_programs_are_handed_on_too(error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(prefetched(failing(2, error), 1))


class Large:
    """Stands for a batch."""


@pytest.mark.parametrize("depth", [0, 1])
def test_an_error_keeps_nothing_alive(depth: int) -> None:
    held: list[weakref.ref[Large]] = []

    def source() -> Iterator[Large]:
        large = Large()
        held.append(weakref.ref(large))
        yield Large()
        raise ArithmeticError

    gc.disable()
    try:
        with pytest.raises(ArithmeticError):
            list(prefetched(source(), depth))
        # pytest's own record of the error has gone with the block above.
        assert held[0]() is None
    finally:
        gc.enable()
