"""Suites of crosscoders and transcoders on worlds with views."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suites import small_suite

import synthkern as synthetic
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import load_suite
from synthkern.suite.supervisor import run_suite
from synthkern.suite.worker import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def world() -> dict[str, object]:
    views = synthetic.ViewsConfig(
        hidden_dims=[5], exclusive_portion=0.5, map=synthetic.MapConfig(6, 4)
    )
    return synthetic.SyntheticModelConfig(16, 8, seed=1, views=views).to_dict()


SAES = {
    "Crosscoder": "crosscoder",
    "L1": {"architecture": "crosscoder", "sae": {"sparsity": "l1"}},
    "Random": {"architecture": "crosscoder", "baseline": "random"},
    "Transcoder": {"architecture": "transcoder", "sae": {"use_skip_connection": True}},
    "Plain": "topk",
}


def test_worlds_decide_widths() -> None:
    runs = {run.sae: run.config for run in plan_runs(small_suite(worlds={"w": world()}, saes=SAES))}
    assert runs["Crosscoder"]["sae"]["d_views"] == [8, 5]
    assert runs["Crosscoder"]["sae"]["d_in"] == 13
    assert [runs["Transcoder"]["sae"][name] for name in ("d_in", "d_out")] == [8, 4]
    assert runs["Plain"]["sae"]["d_in"] == 8
    # What asks for an L0: a number of latents, or of the penalty a target.
    assert runs["Crosscoder"]["sae"]["k"] == 3
    assert runs["L1"]["target_l0"] == 3


def test_crosscoders_need_views() -> None:
    suite = small_suite(saes={"Crosscoder": "crosscoder"})
    with pytest.raises(ValueError, match="world must have several views of features"):
        plan_runs(suite)


def test_runs_are_evaluated_in_their_views(tmp_path: Path) -> None:
    runs = run_suite(small_suite(worlds={"w": world()}, saes=SAES, seeds=[0]), tmp_path)
    assert {run.state for run in runs} == {"done"}
    found = {run.sae: run for run in runs}
    for name in ("Crosscoder", "L1", "Random"):
        assert {"views/accuracy", "views/mcc/0", "views/mcc/1"} <= found[name].metrics.keys()
        assert "map_recovery/edges" not in found[name].metrics
    assert "map_recovery/edges" in found["Transcoder"].metrics
    assert "views/accuracy" not in found["Plain"].metrics
    sae = synthetic.TrainingSAE.load_from_disk(run_folder(tmp_path, found["Crosscoder"].key))
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig.from_dict(world()))
    result = synthetic.eval_sae_on_views(sae, model, 300, seed=0)
    assert result.views is not None
    assert result.views.mcc[0] == pytest.approx(found["Crosscoder"].metrics["views/mcc/0"])


def test_the_suite_of_views_is_what_it_says() -> None:
    suite = load_suite("views")
    kinds = {run.config["sae"]["architecture"] for run in plan_runs(suite)}
    assert kinds == {"crosscoder", "transcoder"}
