"""How the thread ends that makes items ahead: closing, collection, interrupts, forks, exit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from synthkern.data.prefetch import THREAD_NAME, prefetched

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

#: Seconds after which a test that would hang fails instead.
PATIENCE = 60


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


class Large:
    """Stands for a batch."""


def test_closing_ends_the_thread_and_drops_what_was_made() -> None:
    held: list[weakref.ref[Large]] = []

    def source() -> Iterator[Large]:
        while True:
            large = Large()
            held.append(weakref.ref(large))
            yield large
            del large

    items = prefetched(source(), 3)
    next(items)
    assert len(prefetch_threads()) == 1
    items.close()
    assert prefetch_threads() == []
    assert [ref() for ref in held] == [None] * len(held)
    with pytest.raises(StopIteration):
        next(items)


def test_a_generator_that_never_starts_has_no_thread() -> None:
    items = prefetched(count(), 2)
    assert prefetch_threads() == []
    items.close()


def test_a_loop_that_is_left_ends_the_thread() -> None:
    for number in prefetched(count(), 2):
        if number == 3:
            break
    assert prefetch_threads() == []


def test_collecting_a_cycle_ends_the_thread() -> None:
    items: Iterator[object] = prefetched(count(), 2)
    next(items)
    cycle: list[object] = [items]
    cycle.append(cycle)
    del items, cycle
    assert len(prefetch_threads()) == 1
    gc.collect()
    assert prefetch_threads() == []


def test_a_collection_on_the_thread_itself_ends_it() -> None:
    dropped = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert dropped.wait(PATIENCE)
        gc.collect()
        yield 1

    items: Iterator[object] = prefetched(source(), 2)
    next(items)
    (thread,) = prefetch_threads()
    cycle: list[object] = [items]
    cycle.append(cycle)
    gc.disable()
    try:
        del items, cycle
        dropped.set()
        thread.join(PATIENCE)
    finally:
        gc.enable()
    assert not thread.is_alive()


def test_an_interrupt_while_waiting_is_raised_at_once() -> None:
    release, ended = threading.Event(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def source() -> Iterator[int]:
        yield 0
        signal.pthread_kill(main, signal.SIGINT)
        release.wait(PATIENCE)
        ended.set()
        yield 1

    items = prefetched(source(), 1)
    with pytest.raises(KeyboardInterrupt):
        for _ in items:
            pass
    assert not ended.is_set()
    (thread,) = prefetch_threads()
    release.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert ended.is_set()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_told_that_the_thread_stayed_behind() -> None:
    items = prefetched(count(), 2)
    assert next(items) == 0
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            next(items)
        except RuntimeError as error:
            os.write(write, str(error).encode())
        items.close()
        os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(read) as told:
        assert told.read() == (
            f"the thread behind this iterator stayed in process {os.getpid()} at a fork: "
            f"make a new iterator in process {child}"
        )
    assert next(items) == 1
    items.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_can_be_closed() -> None:
    items = prefetched(count(), 2)
    next(items)
    child = os.fork()
    if child == 0:
        items.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    items.close()


STREAM = """
generator = synthkern.ActivationGenerator(2000, 0.3)
items = iter(synthkern.SyntheticStream(generator, 500, seed=0))
next(items)
"""
STUCK = """
synthkern.data.prefetch._EXIT_SECONDS = 0.1
def source():
    yield 0
    threading.Event().wait()
items = synthkern.data.prefetch.prefetched(source(), 1)
next(items)
"""


@pytest.mark.parametrize(
    "program",
    [
        STREAM,
        STREAM + "held = [items]; held.append(held)",
        STREAM + "synthkern.held = items",
        STREAM + "items.close()",
        STUCK,
    ],
    ids=["plain", "in a cycle", "held by the package", "closed", "stuck"],
)
def test_an_interpreter_ends_with_a_live_iterator(tmp_path: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import threading, synthkern, synthkern.data.prefetch" + program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interpreter_ends_after_an_interrupt(tmp_path: Path) -> None:
    """The thread that Ctrl-C leaves to itself is in work while the interpreter shuts down."""
    program = """
import signal, threading, synthkern
sent = []
def interrupts(activations):
    if not sent:
        sent.append(signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    return activations
generator = synthkern.ActivationGenerator(2000, 0.3, modify_activations=interrupts)
for _ in synthkern.SyntheticStream(generator, 500, seed=0):
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE,
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.endswith("KeyboardInterrupt\n")
