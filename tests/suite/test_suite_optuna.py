"""Searches with Optuna: ``pip install -c constraints.txt '.[test,search]' && pytest -m search``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_suites import bench, small_suite, write_suite

from synthkern.cli import main
from synthkern.suite.claims import claim, release
from synthkern.suite.database import PlannedRun, Run, RunDatabase
from synthkern.suite.executor import Executor, Job, Report
from synthkern.suite.export import write_csv
from synthkern.suite.search_plan import plan_searches
from synthkern.suite.search_run import trials_done
from synthkern.suite.study import Study, journal_path, open_journal
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.supervisor import run_suite
from synthkern.suite.worker import Worker

optuna = pytest.importorskip("optuna")

pytestmark = [pytest.mark.search, pytest.mark.usefixtures("one_thread")]

TRIALS = 7
SEARCH: dict[str, Any] = {
    "objective": "mcc",
    "trials": TRIALS,
    "seed": 4,
    "pruning": {"curve": "explained_variance", "startup_trials": 2},
    "adam_beta1": {"uniform": [0.5, 0.9]},
    "l0": {"integers": [2, 6]},
    "lr": {"log_uniform": [1e-4, 1e-1]},
}
TRAINING = {
    "training_samples": 320,
    "batch_size": 16,
    "eval_samples": 300,
    "logger": {"wandb_log_frequency": 5},
}


class Here(Executor):
    """Does tasks in this process, one after the other; Ctrl-C comes instead of some."""

    threads, slots = 1, 1

    def __init__(self, slots: int = 1, left: int = 1000) -> None:
        self.slots, self._left = slots, left
        self._tasks: list[tuple[int, list[PlannedRun]]] = []
        self._count = 0
        self.stopped: set[str] = set()

    def check(self, device: str) -> None:
        assert device == "cpu"

    def begin(self, job: Job) -> None:
        self._job = job

    def submit(self, runs: Sequence[PlannedRun], claims: Sequence[int]) -> int:
        self._count += 1
        self._tasks.append((self._count, list(runs)))
        return self._count

    def stop(self, task: int, key: str) -> None:
        # All was said before anybody listened.
        self.stopped.add(key)

    def wait(self) -> list[Report]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        number, runs = self._tasks.pop(0)
        found = [Report(number, "taken")]

        def report(what: str, *values: Any) -> None:
            found.append(Report(number, what, values))

        Worker(self._job, report).do(runs)
        return [*found, Report(number, "ended")]

    def cancel(self) -> list[Report]:
        self._tasks = []
        return []


def suite(**changes: Any) -> Suite:
    data = {"l0": [], "seeds": [0], "training": TRAINING, "search": SEARCH}
    return small_suite(**{**data, **changes})


def told(runs: Sequence[Run]) -> list[tuple[Any, ...]]:
    return [(run.sae, run.l0, run.seed, run.state, run.metrics) for run in runs]


def states(directory: Path, of: Suite) -> list[str]:
    storage = open_journal(journal_path(directory, of.name))
    (plan,) = plan_searches(of)
    study = Study(storage, plan)._study
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """A search that nothing has cut off."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_suite(suite(), folder, executor=Here())


def test_trials_are_runs_like_others(whole: tuple[Path, list[Run]], tmp_path: Path) -> None:
    folder, runs = whole
    assert len(runs) == TRIALS
    assert {run.state for run in runs} == {"done", "pruned"}
    # The median of none is not there.
    assert [run.state for run in runs[:2]] == ["done", "done"]
    for run in runs:
        assert 2 <= (run.l0 or 0) <= 6
        assert run.config["lr"] == run.axes["lr"]
        assert f"lr={run.axes['lr']}" in run.sae
        assert bool(run.metrics) == (run.state == "done")
    curves = dict(RunDatabase(folder).curves([run.key for run in runs]))
    for run in runs:
        assert curves[run.key].curve("explained_variance")[0][:1] == [80]
    assert states(folder, suite()) == [
        {"done": "COMPLETE", "pruned": "PRUNED"}[run.state] for run in runs
    ]
    write_csv(tmp_path / "runs.csv", runs)
    assert ",pruned," in (tmp_path / "runs.csv").read_text()


def test_nothing_is_done_twice(whole: tuple[Path, list[Run]]) -> None:
    folder, runs = whole
    journal = journal_path(folder, "small").read_bytes()
    assert told(run_suite(suite(), folder, executor=Here(left=0))) == told(runs)
    assert journal_path(folder, "small").read_bytes() == journal


def test_it_is_quiet_and_leaves_optuna_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger("optuna").level
    search = {**SEARCH, "trials": 1}
    run_suite(suite(search=search), tmp_path, executor=Here())
    assert "A new study" not in capfd.readouterr().err
    assert logging.getLogger("optuna").level == before


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_one_that_was_cut_off_goes_on_as_if_not(
    cut: int, whole: tuple[Path, list[Run]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite(), tmp_path, executor=Here(left=cut))
    with journal_path(tmp_path, "small").open("ab") as file:
        file.write(b'{"op_code":')  # as far as the process could write
    assert trials_done(tmp_path, suite(), plan_searches(suite())) == [cut]
    assert told(run_suite(suite(), tmp_path, executor=Here())) == told(whole[1])
    assert "RUNNING" not in states(tmp_path, suite())


def test_one_that_is_killed_goes_on(whole: tuple[Path, list[Run]], tmp_path: Path) -> None:
    path = write_suite(tmp_path, l0=[], seeds=[0], training=TRAINING, search=SEARCH)
    process = bench(tmp_path, str(path), "--out", "out")
    of = load_suite(path)
    while sum(trials_done(tmp_path / "out", of, plan_searches(of))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (before,) = trials_done(tmp_path / "out", of, plan_searches(of))
    runs = run_suite(of, tmp_path / "out", executor=Here())
    assert before < TRIALS
    assert told(runs) == told(whole[1])


def test_with_more_trials_those_there_were_stay(
    whole: tuple[Path, list[Run]], tmp_path: Path
) -> None:
    few = suite(search={**SEARCH, "trials": 3})
    assert told(run_suite(few, tmp_path, executor=Here())) == told(whole[1][:3])
    assert told(run_suite(suite(), tmp_path, executor=Here())) == told(whole[1])


def test_trials_run_side_by_side_and_over_seeds(tmp_path: Path) -> None:
    search = {**SEARCH, "trials": 4}
    runs = run_suite(suite(search=search, seeds=[0, 1]), tmp_path, executor=Here(slots=3))
    assert len(runs) == 8
    assert {run.state for run in runs} <= {"done", "pruned"}
    by_trial = {run.sae: [each.state for each in runs if each.sae == run.sae] for run in runs}
    assert all(len(each) == 2 for each in by_trial.values())
    assert set(states(tmp_path, suite(search=search, seeds=[0, 1]))) <= {"COMPLETE", "PRUNED"}


def test_values_that_come_again_are_no_other_run(tmp_path: Path) -> None:
    data = {"objective": "mcc", "trials": 6, "adam_beta1": {"choices": [0.5, 0.9]}, "seed": 1}
    of = suite(search=data, l0=[3], training={**TRAINING, "lr": 1e-2})
    runs = run_suite(of, tmp_path, executor=Here(slots=2))
    assert len(runs) <= 2
    assert states(tmp_path, of) == ["COMPLETE"] * 6


def test_two_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = {"mcc": "maximize", "sae_l0": "minimize"}
    search = {**SEARCH, "objective": two, "trials": 3, "pruning": None}
    path = write_suite(tmp_path, l0=[], seeds=[0], training=TRAINING, search=search)
    of, out = load_suite(path), tmp_path / "out"
    assert main(["bench", str(path), "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "greatest mcc and least sae_l0" in said
    assert "estimated: about " in said
    assert "memory of each: " in said
    assert not out.exists()
    run_suite(of, out, executor=Here())
    assert states(out, of) == ["COMPLETE"] * 3
    # All is done: the command shows what there is.
    assert main(["bench", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "left to do: 0 trials" in said
    assert "best of 3 finished trials" in said


def test_failed_trials_are_retried_where_asked(tmp_path: Path) -> None:
    of = suite(search={**SEARCH, "trials": 2})
    runs = run_suite(of, tmp_path, executor=Fails())
    assert [run.state for run in runs if run.state != "failed"] == []
    again = run_suite(of, tmp_path, executor=Here(left=0))
    assert {run.state for run in RunDatabase(tmp_path).runs()} == {"failed"}
    assert again == runs
    runs = run_suite(of, tmp_path, executor=Here(), retry_failed=True)
    assert [run.state for run in runs] == ["done", "done"]
    assert states(tmp_path, of) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


class Fails(Here):
    """Fails every run."""

    def wait(self) -> list[Report]:
        number, (run,) = self._tasks.pop(0)
        return [Report(number, "failed", (run.key, "no luck")), Report(number, "ended")]


def test_two_cannot_search_at_once(tmp_path: Path) -> None:
    lock = claim(journal_path(tmp_path, "small").with_suffix(".lock"))
    assert lock is not None
    try:
        with pytest.raises(BlockingIOError, match="another is searching"):
            run_suite(suite(), tmp_path, executor=Here())
    finally:
        release(lock)


def test_a_journal_without_its_runs_is_refused(tmp_path: Path) -> None:
    of = suite(search={**SEARCH, "trials": 1})
    run_suite(of, tmp_path, executor=Here())
    (tmp_path / "suite.sqlite").unlink()
    with pytest.raises(ValueError, match="must have the runs of trial 0"):
        run_suite(of, tmp_path, executor=Here())


def test_one_that_was_cut_off_between_seeds_goes_on_as_if_not(tmp_path: Path) -> None:
    of = suite(search={**SEARCH, "trials": 5}, seeds=[0, 1])
    runs = run_suite(of, tmp_path / "whole", executor=Here())
    assert "pruned" in {run.state for run in runs}
    for cut in (7, 9):
        folder = tmp_path / str(cut)
        with pytest.raises(KeyboardInterrupt):
            run_suite(of, folder, executor=Here(left=cut))
        assert told(run_suite(of, folder, executor=Here())) == told(runs)
