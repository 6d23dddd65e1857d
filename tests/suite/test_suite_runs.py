"""Suites that are run: once, again, in parts, side by side; and runs that fail."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_suites import STEPS, assert_as_alone, small_suite, troubled
from small_training import BATCH, M

import synthkern
from synthkern.stream import STREAM_VERSION
from synthkern.suite.database import LATENT_COLUMNS, Run, RunDatabase
from synthkern.suite.supervisor import run_suite
from synthkern.suite.worker import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def no_process(*_: Any, **__: Any) -> None:
    raise AssertionError("no process may be started")


def times(folder: Path) -> dict[Path, int]:
    return {path: os.stat(path).st_mtime_ns for path in folder.rglob("*")}


def states(runs: list[Run]) -> dict[str, str]:
    return {run.sae: run.state for run in runs}


def test_a_suite_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = small_suite(saes={"TopK": "topk", "JumpReLU": "jumprelu"})
    some = run_suite(suite, tmp_path, only=["seed=1"])
    assert [(run.sae, run.seed) for run in some] == [("TopK", 1), ("JumpReLU", 1)]
    assert [run.state for run in RunDatabase(tmp_path).runs()] == ["pending"] * 2 + ["done"] * 2
    runs = run_suite(suite, tmp_path)
    assert_as_alone(tmp_path, runs)
    # What was done before is as it was, to the time that it took, but for its new partners.
    for run, before in zip(runs[2:], some, strict=True):
        agreement = {"seed_agreement": run.metrics["seed_agreement"]}
        assert run == replace(before, metrics=before.metrics | agreement)
    for run in runs:
        assert run.code_version == synthkern.__version__
        assert run.stream_version == STREAM_VERSION
        assert (run.hardware["threads"], run.hardware["device"]) == (1, "cpu")
        assert {"mcc", "classification/f1_score", "sae_l0"} <= run.metrics.keys()
        assert run.standard_errors["sae_l0"] is not None
        assert run.seconds is not None
        assert run.training_seconds is not None
        assert run.seconds > run.training_seconds > 0
        assert run.samples_per_second == pytest.approx(STEPS * BATCH / run.training_seconds)
        folder = run_folder(tmp_path, run.key)
        assert (folder / "sae_weights.safetensors").is_file()
        assert not (folder / "checkpoint").exists()
    ((_, latents),) = RunDatabase(tmp_path).latents([runs[0].key])
    assert {name: len(column) for name, column in latents.items()} == dict.fromkeys(
        LATENT_COLUMNS, M
    )
    before = times(tmp_path / "runs")
    monkeypatch.setattr(subprocess, "Popen", no_process)
    assert run_suite(suite, tmp_path) == runs
    assert times(tmp_path / "runs") == before


def test_those_that_fail_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    suite = small_suite(
        seeds=[0],
        saes={
            "Raises": troubled("raise", mark=str(tmp_path / "raised")),
            "Cannot be made": troubled("raise", step=-1),
            "NaN": troubled("nan"),
            "Too large": troubled("memory"),
            "Too large in company": troubled("memory", mark=str(tmp_path / "in company")),
            "TopK": "topk",
        },
    )
    runs = run_suite(suite, tmp_path / "out", share_batches=True)
    done = {"TopK": "done", "Too large in company": "done"}
    failed = dict.fromkeys(suite.saes, "failed")
    assert states(runs) == {**failed, **done}
    errors = [run.error or "" for run in runs]
    for error in errors[:2]:
        assert error.startswith("Traceback")
        assert error.endswith("ZeroDivisionError: a bug\n")
        assert "troubled_sae.py" in error
    assert "NonFiniteLossError: the loss was not finite at step 10 (samples 640 to" in errors[2]
    assert "the last good checkpoint is" in errors[2]
    assert "can't allocate memory" in errors[3]
    assert_as_alone(tmp_path / "out", runs[4:])
    # They are left alone until that is asked for; the first goes on from its checkpoint.
    assert run_suite(suite, tmp_path / "out") == runs
    again = run_suite(suite, tmp_path / "out", retry_failed=True)
    assert states(again) == {**failed, **done, "Raises": "done"}
    assert_as_alone(tmp_path / "out", again[:1])
    assert again[4:] == runs[4:]
    assert [run.error for run in again] == [None, *errors[1:4], None, None]


def test_batches_are_shared_and_processes_work_side_by_side(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    saes = {name: name for name in ("topk", "batchtopk", "standard", "matching_pursuit")}
    suite = small_suite(saes=saes)
    run_suite(suite, tmp_path, jobs=2, share_batches=True, only=["topk", "seed=0"])
    runs = run_suite(suite, tmp_path, jobs=2, share_batches=True)
    assert len(runs) == 8
    # Also of the one that could have had all of them.
    assert {run.hardware["threads"] for run in runs} == {1}
    torch.set_num_threads(1)
    assert_as_alone(tmp_path, runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs must be an integer >= 1, got 0"),
        ({"device": "abacus"}, "device must be a device such as 'cpu', got 'abacus'"),
        ({"device": "cuda:99"}, r"device must be one of this machine's \d+ GPUs, got 'cuda:99'"),
        ({"only": ["Cube"]}, "--only must name some of TopK, .*; got 'Cube'"),
        ({"share_batches": 1}, "share_batches must be True or False, got 1"),
    ],
)
def test_mistakes_are_told_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run_suite(small_suite(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
