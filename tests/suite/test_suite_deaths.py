"""Worker processes that are killed: another one goes on, and a run that kills again has failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suites import assert_as_alone, small_suite, troubled

from synthkern.suite import supervisor
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
    monkeypatch.setattr(supervisor, "_PROGRAM", "raise SystemExit(3)")
    with pytest.raises(ChildProcessError, match="ended with status 3 before it could begin a run"):
        run_suite(small_suite(), tmp_path)


def test_a_worker_that_dies_when_all_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_DEATHS", 1)
    suite = small_suite(seeds=[0], saes={"A": troubled("end badly")})
    assert_as_alone(tmp_path, run_suite(suite, tmp_path))


def test_an_error_that_ends_all_comes_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(NotADirectoryError, match="runs"):
        run_suite(small_suite(), tmp_path)
    # In the workers, too.
    monkeypatch.setattr("synthkern.suite.supervisor.check_writable_folder", lambda _: None)
    with pytest.raises(FileExistsError) as found:
        run_suite(small_suite(), tmp_path)
    assert found.value.filename == str(tmp_path / "runs")
