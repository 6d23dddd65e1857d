"""Worlds with other magnitudes than plain normals, in the commands and in a suite's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_suites import suite_data, write_suite
from small_training import small_world

import synthkern as synthetic
from synthkern.cli import main
from synthkern.evaluation.files import read_evaluation
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import load_suite

HEAVY: dict[str, Any] = {"name": "pareto", "correlation": 0.5, "alpha": 3.0}


def recipe(**changes: Any) -> dict[str, Any]:
    return {**small_world().cfg.to_dict(), "std_firing_magnitudes": 0.5, **changes}


def test_describe_train_and_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "world.json", tmp_path / "run"
    path.write_text(json.dumps(recipe(magnitude_distribution=HEAVY)))
    assert main(["describe", str(path)]) == 0
    assert "magnitudes: pareto, correlation 0.5, alpha 3\n" in capsys.readouterr().out
    sizes = ["--samples", "640", "--batch-size", "64", "--eval-samples", "200"]
    sae = ["--architecture", "batchtopk", "--d-sae", "20", "--k", "2.5"]
    assert main(["train", str(path), "--out", str(out), *sizes, *sae]) == 0
    assert main(["eval", str(out), "--samples", "300", "--seed", "3"]) == 0
    assert read_evaluation(out).explained_variance > -1
    config = json.loads((out / "runner_config.json").read_text())
    assert config["synthetic_model"]["magnitude_distribution"] == HEAVY


def test_a_suite_varies_them(tmp_path: Path) -> None:
    vary = {
        "std_firing_magnitudes": [0.25],
        "magnitude_distribution": ["normal", "lognormal", HEAVY],
    }
    suite = load_suite(write_suite(tmp_path, seeds=[0], vary=vary))
    worlds = [run.config["synthetic_model"] for run in plan_runs(suite)]
    found = [world.get("magnitude_distribution", "normal") for world in worlds]
    assert found == ["normal", "lognormal", HEAVY]
    assert [world["std_firing_magnitudes"] for world in worlds] == [0.25] * 3


def test_a_suite_varies_a_part_of_one(tmp_path: Path) -> None:
    data = suite_data()
    world = {**data["worlds"]["small"], "magnitude_distribution": HEAVY}
    vary = {"magnitude_distribution.correlation": [0.0, 0.5]}
    path = write_suite(tmp_path, seeds=[0], worlds={"small": world}, vary=vary)
    worlds = [run.config["synthetic_model"] for run in plan_runs(load_suite(path))]
    assert [each["magnitude_distribution"]["correlation"] for each in worlds] == [0.0, 0.5]


def test_a_suite_runs_and_a_bad_one_is_refused_before_any_run(tmp_path: Path) -> None:
    world = recipe(magnitude_distribution="lognormal")
    path = write_suite(tmp_path, seeds=[0], worlds={"heavy": world})
    (run,) = synthetic.run_suite(load_suite(path), tmp_path / "results")
    assert run.state == "done", run.error
    bad = write_suite(tmp_path, worlds={"w": {**world, "magnitude_distribution": "gamma"}})
    with pytest.raises(ValueError, match="magnitude_distribution must be one of"):
        load_suite(bad)
