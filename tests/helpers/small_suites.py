"""A small suite, what its runs give alone, and processes that do it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from small_training import BATCH, M, figures, small_world

import synthkern as synthetic
from synthkern.suite.database import PlannedRun, Run, RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import Suite

STEPS = 20
OWN = str(Path(__file__).with_name("troubled_sae.py"))

#: Figures of an evaluation by name.
Figures = dict[str, float | None]


def suite_data(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "small",
        "worlds": {"small": small_world().cfg.to_dict()},
        "l0": [3],
        "seeds": [0, 1],
        "training": {
            "training_samples": STEPS * BATCH,
            "batch_size": BATCH,
            "lr": 1e-2,
            "eval_samples": 300,
            "logger": {"wandb_log_frequency": 5},
        },
        "sae": {"d_sae": M},
        "saes": {"TopK": "topk"},
    }
    return {**data, **changes}


def small_suite(**changes: Any) -> Suite:
    return Suite.from_dict(suite_data(**changes))


def troubled(trouble: str = "none", **settings: Any) -> dict[str, Any]:
    """An SAE that does as a TopK SAE does, apart from its trouble."""
    every_step = {"checkpoint_seconds": 0}
    sae = {"trouble": trouble, **settings}
    return {"architecture": "troubled", "file": OWN, "sae": sae, "training": every_step}


def write_suite(place: Path, **changes: Any) -> Path:
    path = place / "suite.yaml"
    path.write_text(yaml.safe_dump(suite_data(**changes), sort_keys=False))
    return path


def alone(run: PlannedRun) -> tuple[Figures, list[dict[str, float]]]:
    """The figures and the training curves of a run that is done here, without a suite."""
    if run.config["sae"]["architecture"] == "troubled":
        (run,) = plan_runs(small_suite(seeds=[run.seed], l0=[run.l0]))
    torch.manual_seed(run.seed)
    runner = synthetic.SyntheticSAERunner(
        synthetic.SyntheticSAERunnerConfig.from_dict(run.config), small_world()
    )
    result = runner.run()
    assert result.final_eval is not None
    found = {
        name: value if math.isfinite(value) else None
        for name, value in result.final_eval.to_log_dict().items()
    }
    return found, figures(result.history)


def assert_as_alone(directory: Path, runs: Sequence[Run]) -> None:
    """Runs have the figures and curves, number for number, that they have without a suite."""
    database = RunDatabase(directory)
    for run in runs:
        assert run.state == "done", run.error
        metrics, rows = alone(run)
        own = {name: each for name, each in run.metrics.items() if name != "seed_agreement"}
        assert own == {name: metrics[name] for name in own}
        ((_, history),) = database.curves([run.key])
        assert figures(history) == rows


def bench(
    place: Path, *words: str, how: Sequence[str] = ("-m", "synthkern"), **environment: str
) -> subprocess.Popen[str]:
    """``synthkern bench`` on one thread; ``how`` are Python's own arguments."""
    return subprocess.Popen(
        [sys.executable, *how, "bench", *words],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
