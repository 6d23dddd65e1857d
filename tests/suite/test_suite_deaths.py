"""Worker processes that are killed: another one goes on, and a run that kills again has failed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from small_suites import OWN, assert_as_alone, small_suite, troubled

from synthkern.sae import registry
from synthkern.suite import local, scheduler
from synthkern.suite.scheduler import Scheduler
from synthkern.suite.supervisor import run_suite

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("share_batches", [False, True])
def test_only_the_run_that_kills_its_process_fails(share_batches: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    suite = small_suite(
        saes={
            "First": troubled(log=str(log)),
            "Killed once": troubled("kill", mark=str(tmp_path / "killed"), step=7),
            "Kills": troubled("kill"),
            "Last": "topk",
        },
        seeds=[0],
    )
    runs = run_suite(suite, tmp_path / "out", share_batches=share_batches)
    assert [run.state for run in runs] == ["done", "done", "failed", "done"]
    assert_as_alone(tmp_path / "out", [runs[0], runs[1], runs[3]])
    error = runs[2].error or ""
    assert "the process that did this run was killed by SIGKILL, 2 times" in error
    # One that shared its batches went on from its checkpoint, in another process.
    begun = [line.split() for line in log.read_text().splitlines()]
    assert [int(step) for _, step in begun] == ([0, 8] if share_batches else [0])
    assert len({process for process, _ in begun}) == len(begun)


def test_workers_that_die_before_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(ChildProcessError, match="ended with status 3 before it could begin a run"):
        run_suite(small_suite(), tmp_path)


def test_a_worker_that_dies_when_all_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_DEATHS", 1)
    suite = small_suite(seeds=[0], saes={"A": troubled("end badly")})
    assert_as_alone(tmp_path, run_suite(suite, tmp_path))


def test_an_error_that_ends_all_comes_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "runs").write_text("no folder")
    with pytest.raises(NotADirectoryError, match="runs"):
        run_suite(small_suite(), out)
    (out / "runs").unlink()
    # In the workers, too: what they cannot load is there only until the runs are planned.
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
    own = tmp_path / "own.py"
    own.write_text(Path(OWN).read_text().replace('"troubled"', '"short_lived"'))
    suite = small_suite(saes={"A": {"architecture": "short_lived", "file": str(own)}})
    monkeypatch.setattr(Scheduler, "_submit", without(own, Scheduler._submit))
    with pytest.raises(FileNotFoundError, match=r"own.py must be a Python file, but there is none"):
        run_suite(suite, out)


def without(file: Path, method: Callable[[Scheduler], None]) -> Callable[[Scheduler], None]:
    def changed(self: Scheduler) -> None:
        file.unlink(missing_ok=True)
        method(self)

    return changed
