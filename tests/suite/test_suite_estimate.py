"""A plan in words, and what a few steps of its runs say of the time that it will take."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_suites import OWN, small_suite, troubled, write_suite

from synthkern.cli import main
from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.estimate import Estimate, estimate, work
from synthkern.suite.plan import plan_runs
from synthkern.suite.plan_text import duration, plan_text
from synthkern.suite.suite import Suite
from synthkern.suite.supervisor import run_suite

pytestmark = pytest.mark.usefixtures("one_thread")


def planned(**changes: Any) -> list[PlannedRun]:
    return plan_runs(small_suite(**changes))


def test_every_run_is_reckoned_from_what_was_measured() -> None:
    runs = planned(
        saes={"A": "topk", "J": "jumprelu", "Own": troubled("raise", step=-1)},
        vary={"hidden_dim": [6, 12]},
    )
    longer = [replace(run, config={**run.config, "training_samples": 10**6}) for run in runs]
    short, long = (estimate(each, files=[Path(OWN)]) for each in (runs, longer))
    for found in (short, long):
        # Seeds do not matter.
        assert found.shapes == 6
        assert found.measured == 4, found.problems
        assert found.seconds.keys() == {run.key for run in runs}
        assert min(found.seconds.values()) > 0
        # PyTorch alone takes this.
        assert 2**26 < found.memory < 2**34
        assert found.device_memory is None
        assert len(found.problems) == 2
        assert found.problems[0].startswith("Own on small, hidden_dim=")
    assert sum(long.seconds.values()) > 2 * sum(short.seconds.values())


def test_a_process_that_dies_ends_nothing() -> None:
    runs = planned(saes={"Own": troubled("kill", step=-1)})
    found = estimate(runs, files=[Path(OWN)])
    assert (found.seconds, found.shapes, found.measured) == ({}, 1, 0)
    text = plan_text(runs, runs, found)
    assert "estimated: nothing, as no run could be measured\n" in text
    assert text.endswith("Own on small: the process that tried it was killed by SIGKILL")


def test_impatience_leaves_others_to_be_reckoned_by_their_size() -> None:
    runs = planned(seeds=[0], vary={"hidden_dim": [6, 12]})
    found = estimate(runs, patience=1e-9)
    # The process may have been killed before the first, on a machine with much to do.
    assert found.measured <= 1
    assert found.shapes == 2


def test_work_follows_samples_and_size() -> None:
    (one,) = planned(seeds=[0])
    assert work(one) == (20 * 64 + 100) * 12 * 20


def test_the_text() -> None:
    runs = planned(vary={"hidden_dim": [6, 12], "adam_beta1": [k / 20 for k in range(10)]})
    seconds = {run.key: 3600.0 for run in runs}
    text = plan_text(
        runs, runs[10:], Estimate(seconds, 20, 5, 3 * 2**30, 2**29), jobs=2, parts=True
    )
    assert text.splitlines() == [
        "small: 40 runs, 51,200 samples",
        "  world: small",
        "  SAE: TopK",
        "  L0: 3",
        "  seed: 0, 1",
        "  hidden_dim: 6, 12",
        "  adam_beta1: 10 values from 0 to 0.45",
        "  left to do: 30 runs, 38,400 samples",
        "",
        "  SAE   runs  samples      time       a run",
        "  ----  ----  -------  --------  ----------",
        "  TopK    30   38,400  30 hours  60 minutes",
        "",
        "  estimated: about 20 hours with 2 worker processes",
        "  memory of each: 3.0 GiB, and 0.5 GiB of the GPU's",
        "  measured just now: a few steps of 5 of 20 shapes; the others by their size",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2.0 minutes"),
        (3 * 3600, "3.0 hours"),
        (40 * 86400, "40 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_dry_run_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_suite(tmp_path, vary={"hidden_dim": [6, 12]})
    out = tmp_path / "out"
    assert main(["bench", str(path), "--out", str(out), "--only", "seed=1", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("small: 2 runs, 2,560 samples\n")
    assert "hidden_dim: 6, 12\n" in text
    assert "estimated: about " in text
    assert not out.exists()
    write_suite(tmp_path, vary={"hidden_dm": [6, 12]})
    assert main(["bench", str(path), "--out", str(out), "--dry-run"]) == 2
    assert "did you mean hidden_dim" in capsys.readouterr().err


def test_a_sweep_is_done_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_suite(tmp_path, seeds=[0], vary={"hidden_dim": [6, 12]})
    out = tmp_path / "out"
    (run,) = run_suite(path, out, only=["hidden_dim=6"])
    assert (run.state, run.axes["hidden_dim"]) == ("done", 6)
    assert main(["bench", str(path), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "left to do: 1 run, 1,280 samples\n" in text
    assert "small, hidden_dim=6, L0 = 3\n" in text
    assert "small, hidden_dim=12, L0 = 3\n" in text


def test_what_is_printed_is_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of 100,000 runs takes seconds to plan: once is enough."""
    plans: list[list[PlannedRun]] = []

    def counted(suite: Suite) -> list[PlannedRun]:
        plans.append(plan_runs(suite))
        return plans[-1]

    monkeypatch.setattr("synthkern.suite.supervisor.plan_runs", counted)
    path = write_suite(tmp_path, seeds=[0])
    assert main(["bench", str(path), "--out", str(tmp_path / "out")]) == 0
    assert [len(plan) for plan in plans] == [1]


def test_a_database_of_before_there_were_axes(tmp_path: Path) -> None:
    suite = small_suite()
    database = RunDatabase(tmp_path, create=True)
    database.add(suite.name, suite.to_dict(), plan_runs(suite))
    with sqlite3.connect(database.path) as connection:
        connection.execute("ALTER TABLE places DROP COLUMN axes")
    connection.close()
    # It is read as it is, and gets them with the next plan.
    assert [run.axes for run in RunDatabase(tmp_path).runs()] == [{}, {}]
    varied = small_suite(seeds=[0], vary={"hidden_dim": [6]})
    RunDatabase(tmp_path, create=True).add("small", varied.to_dict(), plan_runs(varied))
    found = [run.axes.get("hidden_dim") for run in RunDatabase(tmp_path).runs()]
    assert sorted(map(str, found)) == ["6", "None", "None"]
