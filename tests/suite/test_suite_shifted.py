"""A suite on a shifted world: figures of both sides are in the database, the tables and a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suites import small_suite
from small_training import small_world

from synthkern.suite.database import RunDatabase
from synthkern.suite.summary import table_metrics
from synthkern.suite.supervisor import run_suite
from synthkern.world.shift import ShiftConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def test_runs_have_the_figures_of_both_sides(tmp_path: Path) -> None:
    world = small_world().cfg.to_dict()
    world["shift"] = ShiftConfig(num_forbidden_pairs=1, rate_factor=1.5).to_dict()
    suite = small_suite(
        worlds={"shifted": world},
        seeds=[0],
        vary={"shift.rate_factor": [0.5, 1.0]},
        saes={"TopK": "topk", "True": {"baseline": "true_features"}},
    )
    runs = run_suite(suite, tmp_path)
    assert [run.state for run in runs] == ["done"] * len(runs)
    for run in runs:
        metrics = run.metrics
        assert {"shifted/classification/f1_score", "held_out/both"} <= metrics.keys()
        ratio = metrics["shifted/true_l0"] / metrics["true_l0"]
        assert (ratio < 0.75) == (run.axes["shift.rate_factor"] == 0.5)
        assert "shifted/explained_variance" in run.standard_errors
    found = {name for run in runs for name in run.metrics}
    assert "F1 out of distribution" in table_metrics(found).values()
    assert RunDatabase(tmp_path).runs() == runs
