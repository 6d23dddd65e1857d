"""Where a suite's runs are logged, and under which names."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packages import pretend

from synthkern.cli import main
from synthkern.suite.executor import Job
from synthkern.suite.logging import link_boards, run_logging
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import Suite
from synthkern.suite.worker import Worker
from synthkern.training.runner_config import LoggingConfig, SyntheticSAERunnerConfig

SUITE = """
name: tiny
worlds: {toy: {num_features: 16, hidden_dim: 8, seed: 0}}
saes: {TopK: topk}
l0: [2]
seeds: [0]
sae: {d_sae: 16}
training: {training_samples: 64, batch_size: 16, eval_samples: 100}
vary: {lr: [0.001, 0.002]}
"""


def suite(**logger: Any) -> Suite:
    return Suite.from_dict(
        {
            "name": "a-b",
            "worlds": {"toy/1": {"num_features": 16, "hidden_dim": 8, "seed": 0}},
            "saes": {"TopK": "topk"},
            "l0": [2],
            "seeds": [0],
            "sae": {"d_sae": 16},
            "training": {f"logger.{name}": value for name, value in logger.items()},
            "vary": {"lr": [0.001, 0.002]},
        }
    )


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "wandb", "tensorboard", there=True)


def test_runs_that_are_not_logged_are_as_they_were() -> None:
    run = plan_runs(suite())[0]
    assert run_logging(run) == run.config["logger"]


@pytest.mark.usefixtures("_installed")
def test_a_suite_is_a_group_with_what_varies_as_tags() -> None:
    first, second = plan_runs(suite(log_to_wandb=True, wandb_tags=["mine"]))
    found = run_logging(first)
    assert found["wandb_group"] == "a-b"
    assert found["run_name"] == "toy/1, TopK, lr=0.001, L0 2, seed 0"
    assert found["wandb_tags"] == ["mine", "world=toy/1", "sae=TopK", "lr=0.001"]
    assert found["wandb_id"] == first.key != run_logging(second)["wandb_id"]
    # Whether a run is logged decides nothing about its outcome.
    assert [first.key, second.key] == [run.key for run in plan_runs(suite())]


@pytest.mark.usefixtures("_installed")
def test_event_files_have_names(tmp_path: Path) -> None:
    runs = plan_runs(suite(log_to_tensorboard=True))
    for _ in range(2):
        link_boards(tmp_path, runs, "runs")
    for run in runs:
        (tmp_path / "runs" / run.key / "tensorboard").mkdir(parents=True)
    links = sorted((tmp_path / "tensorboard" / "a-b" / "toy-1").iterdir())
    assert [link.name for link in links] == [
        f"TopK, lr={lr}, L0 2, seed 0" for lr in ("0.001", "0.002")
    ]
    assert [link.resolve().parent.name for link in links] == [run.key for run in runs]
    link_boards(tmp_path / "other", plan_runs(suite()), "runs")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("_installed")
def test_groups_are_in_files_of_configs_and_not_in_saelens_part() -> None:
    (run, _) = plan_runs(suite(log_to_wandb=True))
    data = {**run.config, "logger": run_logging(run)}
    cfg = SyntheticSAERunnerConfig.from_dict(data)
    told = cfg.to_file_dict()
    assert not {"wandb_group", "wandb_tags", "log_to_tensorboard"} & told["logger"].keys()
    again = SyntheticSAERunnerConfig.from_dict(told)
    assert again.logging == cfg.logging == LoggingConfig(**run_logging(run))


def test_every_run_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Run:
        def log(self, row: dict[str, float], step: int) -> None:
            asked[-1]["last"] = step

        def finish(self) -> None:
            asked[-1]["finished"] = True

    module = ModuleType("wandb")

    def init(**arguments: Any) -> Run:
        asked.append(arguments)
        return Run()

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    pretend(monkeypatch, "wandb", there=True)
    told: list[str] = []
    worker = Worker(Job(tmp_path, (), "cpu", 1), lambda what, *_: told.append(what))
    small = {"training_samples": 64, "batch_size": 16, "eval_samples": 100}
    given = suite(log_to_wandb=True, wandb_project="mine")
    for run in plan_runs(replace(given, training={**given.training, **small})):
        worker.do([run])
    assert told.count("done") == 2
    assert [each["project"] for each in asked] == ["mine"] * 2
    assert [each["group"] for each in asked] == ["a-b"] * 2
    assert [each["tags"][-1] for each in asked] == ["lr=0.001", "lr=0.002"]
    assert [(each["last"], each["finished"]) for each in asked] == [(4, True)] * 2


def test_one_logger_for_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    words = ["bench", str(tmp_path / "tiny.yaml"), "--wandb", "mine", "--tensorboard"]
    assert main(words) == 2
    assert "--wandb and --tensorboard must not be given both" in capsys.readouterr().err
