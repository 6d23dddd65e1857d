"""The bars count what is done, whatever happens to the runs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from small_suites import small_suite

from synthkern.suite.bars import Bars
from synthkern.suite.database import PlannedRun
from synthkern.suite.plan import plan_runs

RUNS: dict[str, PlannedRun] = {run.key: run for run in plan_runs(small_suite())}
FIRST, SECOND = RUNS


def overall(capsys: pytest.CaptureFixture[str], watch: Callable[[Bars], None]) -> str:
    """What the bar of all shows at the end of a suite of 3 runs, of which one is done."""
    with Bars(RUNS, 3) as bars:
        watch(bars)
    lines = re.findall(r"\d of 3 runs: +\d+%\|[^|]*\| [^ ]*", capsys.readouterr().err)
    return re.sub(r"\|.*\| ", " ", lines[-1])


def do(bars: Bars, key: str, first: int = 0) -> None:
    bars.begin(key)
    bars.resume(key, first)
    for samples in (640, 1300):
        bars.progress(key, samples, "loss=1, L0=3")
    bars.evaluate(key)
    bars.end_of(key)


def test_runs_from_beginning_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    def watch(bars: Bars) -> None:
        bars.world("small")
        do(bars, FIRST)
        do(bars, SECOND, 320)

    assert overall(capsys, watch) == "3 of 3 runs: 100% 2.56k/2.56k"


def test_what_a_dead_process_had_done_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    def watch(bars: Bars) -> None:
        bars.begin(FIRST)
        bars.resume(FIRST, 0)
        bars.progress(FIRST, 960, "")
        bars.begin(FIRST)
        bars.resume(FIRST, 640)

    assert overall(capsys, watch) == "1 of 3 runs:  25% 640/2.56k"


def test_runs_that_fail_or_are_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    def watch(bars: Bars) -> None:
        bars.begin(FIRST)
        bars.end_of(FIRST)
        bars.elsewhere(SECOND)

    assert overall(capsys, watch) == "2 of 3 runs: 100% 1.28k/1.28k"
