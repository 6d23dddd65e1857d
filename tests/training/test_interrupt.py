"""Signals that come in succession, and SIGTERM where Ctrl-C is ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from synthkern.training.interrupt import deferred_interrupt, termination_interrupts

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in BOTH}
    yield
    found = {number: signal.getsignal(number) for number in BOTH}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert found[signal.SIGTERM] == before[signal.SIGTERM]


def test_termination_interrupts_where_ctrl_c_is_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with termination_interrupts():
        signal.raise_signal(signal.SIGINT)  # stays ignored
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_more_signals_at_once_do_not_end_what_the_first_began(
    first: signal.Signals, second: signal.Signals
) -> None:
    saved = False
    with termination_interrupts(grace=1e6):
        try:
            signal.raise_signal(first)
        except KeyboardInterrupt:
            signal.raise_signal(second)
            signal.raise_signal(first)
            saved = True
    assert saved


@pytest.mark.parametrize("ignored", [False, True])
def test_a_deferred_termination_comes_at_the_end(ignored: bool) -> None:
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = False

    def work() -> None:
        nonlocal done
        with deferred_interrupt():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            done = True

    with termination_interrupts(), pytest.raises(KeyboardInterrupt):
        work()
    assert done


def test_the_second_comes_through_after_a_while() -> None:
    with termination_interrupts(grace=-1):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
