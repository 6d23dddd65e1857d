"""Floors, ceilings and SAEs that are given, as rows of a suite."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_suites import assert_as_alone, small_suite, suite_data, write_suite
from small_training import D, M, small_sae, small_world

import synthkern as synthetic
from synthkern.cli import main
from synthkern.evaluation.files import read_evaluation
from synthkern.suite.baselines import BASELINES
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.evaluated import freeze_decoder, permute_decoder
from synthkern.suite.plan import plan_runs
from synthkern.suite.side_by_side import units_of
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.summary import summarize
from synthkern.suite.supervisor import run_suite
from synthkern.suite.tables import tables
from synthkern.training.batch_source import EVALUATION_START

ROWS: dict[str, Any] = {
    "TopK": "topk",
    "Random": {"architecture": "topk", "baseline": "random"},
    "Permuted": {"of": "TopK", "baseline": "permuted_decoder"},
    "Frozen": {"of": "TopK", "baseline": "frozen_decoder"},
    "True": {"baseline": "true_features"},
    "Probes": {"baseline": "linear_probes"},
}

#: Keys of "TopK" in a suite without any baseline.
PLAIN = [run.key for run in plan_runs(small_suite())]

OWN = f"""
import torch

class Own:
    def __init__(self):
        self.W_dec = torch.eye({D})

    def encode(self, x):
        return x.relu()

    def decode(self, z):
        return z @ self.W_dec
"""


@pytest.fixture(autouse=True)
def _threads(one_thread: None) -> None:
    """Small runs."""


def by_sae(runs: list[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        assert run.state == "done", run.error
        found.setdefault(run.sae, []).append(run)
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    """All rows, at two L0s and for two seeds."""
    folder = tmp_path_factory.mktemp("rows")
    torch.set_num_threads(1)
    return folder, run_suite(small_suite(saes=ROWS, l0=[3, 4]), folder)


def test_rows_are_done_and_others_stay(done: tuple[Path, list[Run]]) -> None:
    folder, every = done
    runs = by_sae([run for run in every if run.l0 in (3, None)])
    assert {sae: len(of) for sae, of in runs.items()} == dict.fromkeys(ROWS, 2)
    assert [run.key for run in runs["TopK"]] == PLAIN
    assert_as_alone(folder, runs["TopK"])
    assert {sae: of[0].role for sae, of in runs.items()} == {
        "TopK": "trained",
        "Random": "floor",
        "Permuted": "floor",
        "Frozen": "floor",
        "True": "ceiling",
        "Probes": "ceiling",
    }
    for seed in (0, 1):
        found = {sae: of[seed].metrics for sae, of in runs.items()}
        f1 = {sae: float(of["classification/f1_score"] or 0) for sae, of in found.items()}
        # A training of 20 steps is hardly off the floor.
        assert max(f1["Random"], f1["TopK"]) < f1["True"] < f1["Probes"]
        # Rows change places: what is a matter of the whole set of them stays.
        for name in ("mcc", "uniqueness"):
            assert found["Permuted"][name] == pytest.approx(found["TopK"][name])
        assert found["Frozen"]["mcc"] == pytest.approx(found["Random"]["mcc"])
        explained = {sae: float(of.get("explained_variance") or 0) for sae, of in found.items()}
        assert explained["Permuted"] < explained["TopK"]
        assert explained["Frozen"] > explained["Random"]
        assert found["True"]["mcc"] == pytest.approx(1)
        assert all(name.startswith(("classification/", "true_l0")) for name in found["Probes"])
        assert (runs["Probes"][seed].standard_errors["classification/f1_score"] or 0) > 0
    for sae in ("Random", "Permuted", "True", "Probes"):
        assert {run.samples_per_second for run in runs[sae]} == {None}
        assert not dict(RunDatabase(folder).curves([runs[sae][0].key]))[runs[sae][0].key].rows
    # Figures are beside the runs too.
    result = read_evaluation(folder / "runs" / runs["Random"][0].key)
    assert result.mcc == runs["Random"][0].metrics["mcc"]
    # Nothing is left to do.
    assert run_suite(small_suite(saes=ROWS, l0=[3, 4]), folder) == every


def test_figures_are_those_of_the_same_sae_alone(done: tuple[Path, list[Run]]) -> None:
    folder, every = done
    runs = {run.sae: run for run in every if run.seed == 1 and run.l0 == 3}
    model = small_world()

    def figures(sae: Any) -> dict[str, Any]:
        result = synthetic.eval_sae_on_synthetic_data(
            sae,
            model.feature_dict,
            model.activation_generator,
            300,
            64,
            seed=1,
            start=EVALUATION_START,
        )
        return result.to_log_dict()

    torch.manual_seed(1)
    sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(D, M, k=3))
    assert runs["Random"].metrics.items() <= figures(sae).items()
    trained = synthetic.load_sae(folder / "runs" / runs["TopK"].key)
    permute_decoder(trained, 1)
    assert runs["Permuted"].metrics.items() <= figures(trained).items()


def test_a_permuted_decoder_whose_sae_nobody_trained(
    done: tuple[Path, list[Run]], tmp_path: Path
) -> None:
    # Alone, it trains what it needs, with the same outcome.
    (run,) = run_suite(small_suite(saes=ROWS, seeds=[0]), tmp_path, only=["Permuted"])
    (same,) = [each for each in done[1] if each.key == run.key]
    assert run.metrics == same.metrics


@pytest.mark.parametrize("rescales", [False, True])
def test_a_permuted_decoder_has_the_latents_of_what_was_trained(
    rescales: bool, tmp_path: Path
) -> None:
    # The threshold for inference is far from where it moves to after 20 steps.
    sae = {"rescale_acts_by_decoder_norm": rescales}
    saes = {
        "Batch": {"architecture": "batchtopk", "sae": sae},
        "Permuted": {"of": "Batch", "baseline": "permuted_decoder"},
    }
    runs = by_sae(run_suite(small_suite(saes=saes, seeds=[0]), tmp_path))
    (trained,), (permuted,) = runs["Batch"], runs["Permuted"]
    for name in ("sae_l0", "dead_latents"):
        assert permuted.metrics[name] == trained.metrics[name]


def test_a_permuted_decoder_comes_with_what_it_permutes() -> None:
    runs = plan_runs(small_suite(saes={**ROWS, "Batch": "batchtopk"}))
    for together in (1, 2, 8):
        units = units_of(runs, together)
        assert sorted(run.key for unit in units for run in unit) == sorted(run.key for run in runs)
        for unit in units:
            names = [run.sae for run in unit]
            assert ("Permuted" in names) == ("TopK" in names)
            if "Permuted" in names:
                assert names.index("Permuted") > names.index("TopK")
            # What is only evaluated has no batches to share.
            assert not {"Random", "True", "Probes"} & set(names) or len(names) == 1


def test_shared_batches_and_two_processes_change_nothing(
    done: tuple[Path, list[Run]], tmp_path: Path
) -> None:
    suite = small_suite(saes=ROWS, l0=[3, 4])
    runs = run_suite(suite, tmp_path, share_batches=True, jobs=2)
    assert [run.metrics for run in runs] == [run.metrics for run in done[1]]


def test_what_fails_is_told_and_others_go_on(tmp_path: Path) -> None:
    saes = {
        "A": "topk",
        "Permuted": {"architecture": "matching_pursuit", "baseline": "permuted_decoder"},
        "Frozen": {"architecture": "matching_pursuit", "baseline": "frozen_decoder"},
    }
    runs = run_suite(small_suite(saes=saes, seeds=[0]), tmp_path)
    assert [run.state for run in runs] == ["done", "failed", "failed"]
    assert "permuted_decoder must be of an SAE with an encoder of its own" in str(runs[1].error)
    assert "frozen_decoder must be of an SAE with an encoder of its own" in str(runs[2].error)


def test_a_sweep_of_nothing_but_floors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saes = {"Random": ROWS["Random"], "TopK": "topk"}
    run_suite(small_suite(saes=saes, seeds=[0]), tmp_path, only=["Random"])
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--text"]) == 0
    assert capsys.readouterr().out.startswith("no run but floors and ceilings is done yet")


def test_a_permutation_leaves_no_row_in_its_place() -> None:
    sae = small_sae("topk", rescale_acts_by_decoder_norm=False)
    rows = sae.W_dec.detach().clone()
    x = torch.randn(7, D, generator=torch.Generator().manual_seed(0))
    latents = sae.encode(x)
    for seed in range(20):
        sae.W_dec.data.copy_(rows)
        permute_decoder(sae, seed)
        assert not (sae.W_dec == rows).all(dim=1).any()
        assert sorted(sae.W_dec.tolist()) == sorted(rows.tolist())
    assert torch.equal(sae.encode(x), latents)


def test_latents_keep_their_size_where_norms_scale_them() -> None:
    sae = small_sae("topk")
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.5, 2, M)[:, None]
    x = torch.randn(7, D, generator=torch.Generator().manual_seed(0))
    before = sae.encode(x)
    permute_decoder(sae, 0)
    torch.testing.assert_close(sae.encode(x), before)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(M))


@pytest.mark.parametrize(
    "architecture",
    ["standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated"],
)
def test_a_frozen_decoder_stays_and_the_rest_is_trained(architecture: str) -> None:
    sae = small_sae(architecture)
    before = {name: value.clone() for name, value in sae.named_parameters()}
    freeze_decoder(sae)
    training = synthetic.TrainingConfig(training_samples=640, batch_size=64, seed=0, lr=1e-2)
    synthetic.train_sae(sae, small_world(), training)
    assert torch.equal(sae.W_dec, before["W_dec"])
    assert not torch.equal(sae.W_enc, before["W_enc"])


def test_rows_that_ask_for_an_l0_and_axes_that_they_take() -> None:
    saes = {**ROWS, "MP": {"architecture": "jumprelu", "baseline": "random"}}
    training = {k: v for k, v in small_suite().training.items() if k != "lr"}
    axes = {"training": training, "vary": {"lr": [0.1, 0.2]}}
    runs = plan_runs(small_suite(saes=saes, l0=[3, 4], seeds=[0], **axes))
    asked: dict[str, list[tuple[float | None, float | None]]] = {sae: [] for sae in saes}
    for run in runs:
        asked[run.axes["sae"]].append((run.l0, run.axes.get("lr")))
    trained = [(l0, lr) for lr in (0.1, 0.2) for l0 in (3, 4)]
    assert sorted(asked["TopK"]) == sorted(trained)
    assert sorted(asked["Permuted"]) == sorted(trained)
    assert sorted(asked["Frozen"]) == sorted(trained)
    # Nothing is trained: no learning rate, and a target that nothing would meet.
    assert sorted(asked["Random"]) == [(3, None), (4, None)]
    assert asked["True"] == asked["Probes"] == asked["MP"] == [(None, None)]
    assert len({run.key for run in runs}) == len(runs)


def test_given_saes_are_evaluated(tmp_path: Path) -> None:
    sae = small_sae("topk", rescale_acts_by_decoder_norm=False)
    sae.save_inference_model(tmp_path / "saved")
    tensors = {name: getattr(sae, name).detach() for name in ("W_dec", "b_enc", "b_dec")}
    save_file({**tensors, "W_enc": sae.W_enc.detach().contiguous()}, tmp_path / "a.safetensors")
    (tmp_path / "own.py").write_text(OWN)
    saes = {
        "TopK": "topk",
        "Saved": {"source": "saved"},
        "Weights": {"source": "a.safetensors", "activation": "topk", "k": 3},
        "Own": {"source": "own.py:Own"},
    }
    # Paths start from the suite's file.
    suite = load_suite(write_suite(tmp_path, saes=saes))
    runs = by_sae(run_suite(suite, tmp_path / "out"))
    assert [run.key for run in runs["TopK"]] == PLAIN
    assert {run.role for sae in ("Saved", "Weights", "Own") for run in runs[sae]} == {"given"}
    for saved, weights in zip(runs["Saved"], runs["Weights"], strict=True):
        for name, value in saved.metrics.items():
            assert weights.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert runs["Own"][0].metrics["mcc"] != runs["Own"][0].metrics["uniqueness"]
    keys = {sae: [run.key for run in of] for sae, of in runs.items()}
    # Wherever the files are, they are the same; other ones are not.
    shutil.copytree(tmp_path / "saved", tmp_path / "moved")
    moved = Suite.from_dict(suite_data(saes={"Saved": {"source": str(tmp_path / "moved")}}))
    assert [run.key for run in plan_runs(moved)] == keys["Saved"]
    small_sae("topk", decoder_init_norm=0.2).save_inference_model(tmp_path / "moved")
    assert plan_runs(moved)[0].key != keys["Saved"][0]


@pytest.mark.parametrize(
    ("saes", "message"),
    [
        ({"A": {"baseline": "zero"}}, r"saes\['A'\] must have architecture"),
        ({"A": {"architecture": "topk", "baseline": "zero"}}, r"\['A'\]: baseline must be one of"),
        ({"A": {"baseline": "random"}}, r"saes\['A'\] must have architecture, a name"),
        ({"A": {"of": "B", "baseline": "random"}}, r"saes\['A'\] must have baseline and of, and"),
        ({"A": {"of": "A", "baseline": "random"}}, r"saes\['A'\] must have baseline and of"),
        ({"A": "topk", "B": {"of": "A"}}, r"saes\['B'\] must have baseline and of"),
        (
            {
                "A": {"architecture": "topk", "baseline": "random"},
                "B": {"of": "A", "baseline": "random"},
            },
            r"saes\['B'\].of must be an SAE that is trained, got 'A'",
        ),
        ({"A": {"source": "x", "architecture": "topk"}}, r"unknown keys \['architecture'\]"),
        ({"A": {"source": "a.safetensors"}}, r"saes\['A'\]: activation must be given"),
        ({"A": {"source": "./nowhere"}}, r"saes\['A'\]: source must be a directory"),
        ({"A": {"source": "own.py:Wide"}}, rf"saes\['A'\]: .*inputs of width {D}, as the world"),
    ],
)
def test_mistakes_are_told_before_any_work(
    saes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    wide = "import torch\nclass Wide:\n    W_dec = torch.eye(5)\n    encode = decode = None\n"
    (tmp_path / "own.py").write_text(wide)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_suite(Suite.from_dict(suite_data(saes=saes), tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_show_them_apart(done: tuple[Path, list[Run]]) -> None:
    text = tables(summarize(done[1]), width=500)
    above, below = text.split("small, L0 = 4")
    for part in (above, below):
        names = [line.split("  ")[0] for line in part.splitlines() if line[:1].isalpha()]
        assert [name for name in names if name in ROWS or name.endswith(":")] == [
            "TopK",
            "floors:",
            "Random",
            "Permuted",
            "Frozen",
            "ceilings:",
            "True",
            "Probes",
        ]
    (probes,) = [line for line in above.splitlines() if line.startswith("Probes")]
    assert probes.split()[-5:] == ["-"] * 5


def test_every_baseline_is_described() -> None:
    text = synthetic.SuiteSAE.__doc__ or ""
    for name, each in BASELINES.items():
        assert f"""- "{name}" (a {each.role}""" in text


def test_the_command_plans_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(tmp_path, saes=ROWS, seeds=[0])
    assert main(["bench", str(suite), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "6 runs, 2,560 samples" in text, text
    assert "not measured" not in text
