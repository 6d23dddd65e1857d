"""What does the runs of a suite: any executor, and mistakes that are told before any work."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_suites import assert_as_alone, small_suite, write_suite

from synthkern.cli import main
from synthkern.suite.database import PlannedRun
from synthkern.suite.executor import Executor, Job, Report
from synthkern.suite.local import LocalExecutor
from synthkern.suite.memory import estimated_memory
from synthkern.suite.plan import plan_runs
from synthkern.suite.ray_cluster import _check_answers, ray_module, token_in
from synthkern.suite.ray_executor import RayExecutor
from synthkern.suite.supervisor import run_suite
from synthkern.suite.worker import Worker

pytestmark = pytest.mark.usefixtures("one_thread")


class Here(Executor):
    """Does tasks in this process, each after its machine was lost some times."""

    threads, slots = 1, 2

    def __init__(self, losses: int = 0) -> None:
        self._losses = losses
        self._tasks: list[list[PlannedRun]] = []
        self._reports: list[Report] = []
        self.cancelled = 0

    def check(self, device: str) -> None:
        assert device == "cpu"

    def begin(self, job: Job) -> None:
        self._job = job

    def submit(self, runs: Sequence[PlannedRun], claims: Sequence[int]) -> int:
        assert len(claims) == len(runs)
        self._tasks.append(list(runs))
        return len(self._tasks)

    def wait(self) -> list[Report]:
        number = len(self._tasks)
        while not self._tasks[number - 1]:
            number -= 1
        runs, self._tasks[number - 1] = self._tasks[number - 1], []
        found = [Report(number, "taken")]
        if self._losses:
            self._losses -= 1
            return [*found, Report(number, "lost")]

        def report(what: str, *values: Any) -> None:
            found.append(Report(number, what, values))

        Worker(self._job, report).do(runs)
        return [*found, Report(number, "ended")]

    def cancel(self) -> list[Report]:
        self.cancelled += 1
        return []


def test_a_suite_by_another_executor(tmp_path: Path) -> None:
    executor = Here()
    runs = run_suite(small_suite(), tmp_path, executor=executor)
    assert_as_alone(tmp_path, runs)
    assert executor.cancelled == 1


def test_lost_machines_are_no_runs_fault(tmp_path: Path) -> None:
    runs = run_suite(small_suite(seeds=[0]), tmp_path, executor=Here(losses=5))
    assert_as_alone(tmp_path, runs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"executor": "ray"}, TypeError, "executor must be an Executor, got 'ray'"),
        (
            {"executor": LocalExecutor(), "jobs": 2},
            ValueError,
            "jobs must be 1 with an executor, which has its own, got 2",
        ),
        (
            {"executor": RayExecutor(), "device": "cuda:1"},
            ValueError,
            "device must be 'cuda' on a Ray cluster, which chooses one itself, got 'cuda:1'",
        ),
        (
            {"executor": RayExecutor(gpus=0), "device": "cuda"},
            ValueError,
            "gpus must be above 0 with device 'cuda', got 0",
        ),
    ],
)
def test_executors_that_do_not_fit(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run_suite(small_suite(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus": 0}, "cpus must be an integer >= 1, got 0"),
        ({"gpus": -0.5}, "gpus must be"),
        ({"gpus": 1.5}, "gpus must be at most 1 or a whole number, got 1.5"),
        ({"memory": 0}, "memory must be an integer >= 1, got 0"),
        ({"patience": 0}, "patience must be"),
        ({"shared": "no"}, "shared must be True or False, got 'no'"),
        ({"address": 6379}, "address must be a text or None, got 6379"),
    ],
)
def test_settings_of_a_cluster(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        RayExecutor(**settings)


def test_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'synthkern\[ray\]'"):
        ray_module()
    suite, out = write_suite(tmp_path), tmp_path / "out"
    assert main(["bench", str(suite), "--out", str(out), "--ray"]) == 2
    assert "Ray must be installed" in capsys.readouterr().err
    assert main(["bench", str(suite), "--out", str(out), "--gpus", "0.5"]) == 2
    assert capsys.readouterr().err == "synthkern: --gpus must be given with --ray only\n"
    assert not out.exists()


def test_addresses() -> None:
    with socket.socket() as bound:
        # Bound and not listened at: nobody else can be there.
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {place} within 5 s"):
            _check_answers(place, 5.0)
        bound.listen()
        _check_answers(place, 5.0)
    for address in ("nonsense", "ray://10.0.0.1:10001", "10.0.0.1:"):
        with pytest.raises(ValueError, match=r"address must be HOST:PORT of a cluster's head"):
            _check_answers(address, 5.0)
    _check_answers("auto", 5.0)


def test_a_folder_is_known_by_a_file(tmp_path: Path) -> None:
    with token_in(tmp_path) as one, token_in(tmp_path) as other:
        assert one.read_text() != other.read_text()
    assert not list(tmp_path.iterdir())


def test_more_takes_more_memory() -> None:
    configs = [
        plan_runs(small_suite(seeds=[0], sae={"d_sae": latents}))[0].config for latents in (8, 800)
    ]
    few, many = (estimated_memory([config], 10**6) for config in configs)
    width = configs[1]["sae"]["d_in"]
    # Weights, gradients and two moments are the least that an SAE takes.
    assert many - few > 792 * 2 * width * 4 * 4
    assert estimated_memory(configs, 10**6) > many
    assert estimated_memory(configs[:1], 2 * 10**6) > few
