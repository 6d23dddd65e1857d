"""The commands that train, evaluate and draw, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_training import small_world

from synthkern.cli import main
from synthkern.engine import processor
from synthkern.evaluation.files import read_evaluation
from synthkern.sae import GatedTrainingSAE, JumpReLUTrainingSAE, TrainingSAE
from synthkern.training.runner_config import flat


@pytest.fixture
def world(tmp_path: Path) -> str:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(small_world().cfg.to_dict()))
    return str(path)


def train(world: str, out: Path, *words: str) -> int:
    small = ["--samples", "1.28e3", "--batch-size", "64", "--eval-samples", "200"]
    return main(["train", world, "--out", str(out), *small, *words])


def recipe(out: Path) -> dict[str, Any]:
    return flat(json.loads((out / "runner_config.json").read_text()))


BATCHTOPK = ("--architecture", "batchtopk", "--d-sae", "20", "--k", "2.5")


def test_train_eval_plot(world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train(world, out, *BATCHTOPK, "--lr", "0.01", "--eval-frequency", "5") == 0
    text = capsys.readouterr().out
    assert f"batchtopk of 20 latents, written to {out}" in text
    assert "classification/f1_score" in text
    assert isinstance(TrainingSAE.load_from_disk(out), JumpReLUTrainingSAE)
    assert main(["eval", str(out), "--samples", "500", "--seed", "3"]) == 0
    result = read_evaluation(out)
    text = capsys.readouterr().out
    assert f"{result.mcc:.4f}" in text
    assert result.by_frequency is not None
    assert f"{result.by_frequency[-1].f1:.4f}" in text.split("rarest quarter")[1]
    assert main(["plot", str(out)]) == 0
    names = ["training_curves.html", "precision_recall.html", "similarity.html"]
    assert capsys.readouterr().out.split() == [str(out / name) for name in names]
    assert all((out / name).stat().st_size > 1000 for name in names)


def test_an_sae_knows_its_world(world: str, tmp_path: Path) -> None:
    assert train(world, tmp_path, *BATCHTOPK) == 0
    metadata = TrainingSAE.load_from_disk(tmp_path).cfg.metadata
    assert metadata["world_fingerprint"] == small_world().fingerprint
    # On that world, built again: nothing is warned of, which would be an error here.
    assert main(["eval", str(tmp_path), "--samples", "100"]) == 0
    assert main(["eval", str(tmp_path), "--samples", "100", "--world", world]) == 0


def test_evaluation_on_another_world_warns(world: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(world, out, *BATCHTOPK) == 0
    other = small_world()
    other.activation_generator.firing_probabilities[0] = 0.25
    other.save(tmp_path / "other")
    names = f"trained on the world {small_world().fingerprint}, .* another, {other.fingerprint}"
    with pytest.warns(UserWarning, match=names):
        assert main(["eval", str(out), "--samples", "100", "--world", f"{tmp_path}/other"]) == 0
    # Of an SAE from elsewhere nobody knows.
    config = json.loads((out / "cfg.json").read_text())
    del config["metadata"]["world_fingerprint"]
    (out / "cfg.json").write_text(json.dumps(config))
    assert main(["eval", str(out), "--samples", "100", "--world", f"{tmp_path}/other"]) == 0


def test_evaluation_under_autocast(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "lacks_bfloat16", lambda: False)
    assert train(world, tmp_path, *BATCHTOPK) == 0
    results = []
    for option in ([], ["--autocast"]):
        assert main(["eval", str(tmp_path), "--samples", "500", *option]) == 0
        results.append(read_evaluation(tmp_path))
    exact, cast = results
    assert cast.mcc == exact.mcc
    assert 0 < abs(cast.explained_variance - exact.explained_variance) < 0.02


def test_the_same_command_again_gives_the_same_sae(world: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (*BATCHTOPK, "--seed", "7")
    assert train(world, out, *words) == 0
    before = (out / "sae_weights.safetensors").read_bytes()
    assert train(world, out, *words) == 0
    assert train(world, tmp_path / "other", *words) == 0
    for place in (out, tmp_path / "other"):
        assert (place / "sae_weights.safetensors").read_bytes() == before


def test_a_saved_model_is_a_world_too(tmp_path: Path) -> None:
    small_world().save(tmp_path / "model")
    out = tmp_path / "run"
    assert train(str(tmp_path / "model"), out, *BATCHTOPK) == 0
    assert TrainingSAE.load_from_disk(out).cfg.d_in == 12
    assert main(["eval", str(out), "--samples", "100"]) == 0


def test_other_settings_in_a_folder_that_is_taken_change_nothing_there(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(world, out, *BATCHTOPK) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert train(world, out, *BATCHTOPK, "--lr", "0.5") == 2
    assert "training.lr = 0.0003, got 0.5: give another directory" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_a_config_file_says_everything_and_options_the_last_word(
    world: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    words = ("--architecture", "gated", "--d-sae", "20", "--l1-coefficient", "0.3")
    assert train(world, first, *words, "--adam-beta1", "0.5", "--no-run-final-eval") == 0
    assert not (first / "eval_stats.json").exists()
    second = tmp_path / "second"
    file = str(first / "runner_config.json")
    assert main(["train", "--config", file, "--out", str(second), "--l1-coefficient", "0.4"]) == 0
    before, after = recipe(first), recipe(second)
    assert isinstance(TrainingSAE.load_from_disk(second), GatedTrainingSAE)
    assert (before["sae"]["l1_coefficient"], after["sae"]["l1_coefficient"]) == (0.3, 0.4)
    assert after["adam_beta1"] == 0.5
    assert after["training_samples"] == 1280


def test_options_of_the_topk_family_and_of_resampling(world: str, tmp_path: Path) -> None:
    words = ("--d-sae", "20", "--k", "2", "--k-start", "6", "--k-anneal-steps", "9")
    assert (
        train(world, tmp_path, "--architecture", "abstopk", *words, "--resample-dead-every", "7")
        == 0
    )
    found = recipe(tmp_path)
    assert (found["sae"]["architecture"], found["resample_dead_every"]) == ("abstopk", 7)
    assert (found["sae"]["k_start"], found["sae"]["k_anneal_steps"]) == (6, 9)
    sae = TrainingSAE.load_from_disk(tmp_path)
    assert bool((sae.encode(small_world().sample(100, seed=1)) < 0).any())


def test_a_target_l0_is_the_controllers_or_the_quadratic_losss(world: str, tmp_path: Path) -> None:
    words = ("--architecture", "jumprelu", "--d-sae", "20", "--target-l0", "3")
    assert train(world, tmp_path / "a", *words) == 0
    found = recipe(tmp_path / "a")
    assert (found["target_l0"], found["sae"]["target_l0"]) == (3, None)
    words = (*words, "--jumprelu-sparsity-loss-mode", "quadratic")
    assert train(world, tmp_path / "b", *words) == 0
    found = recipe(tmp_path / "b")
    assert (found["target_l0"], found["sae"]["target_l0"]) == (None, 3)


def test_lists_and_their_help(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--architecture", "matryoshka_batchtopk", "--d-sae", "20", "--k", "3")
    assert train(world, tmp_path / "run", *words, "--matryoshka-widths", "5,10,20") == 0
    assert recipe(tmp_path / "run")["sae"]["matryoshka_widths"] == [5, 10, 20]
    with pytest.raises(SystemExit):
        main(["train", "--architecture", "matching_pursuit", "--help"])
    text = capsys.readouterr().out
    assert "--max-iterations" in text
    assert "--lr-warm-up-steps" in text
    assert "--matryoshka-widths" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--architecture must be given"),
        (("--architecture", "topk"), "--d-sae must be given"),
        ((*BATCHTOPK, "--lr", "-1"), "lr must be"),
        ((*BATCHTOPK, "--device", "abacus"), "device must be a device such as 'cpu'"),
        ((*BATCHTOPK, "--target-l0", "3"), "target_l0 must be None for an SAE without one"),
    ],
)
def test_mistakes_are_told(
    words: tuple[str, ...],
    message: str,
    world: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(world, tmp_path / "run", *words) == 2
    assert message in capsys.readouterr().err


def test_unknown_options_are_told(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--k", "3"), ("--architecture", "cube"), (*BATCHTOPK, "--l1-coefficient", "1")):
        with pytest.raises(SystemExit):
            train(world, tmp_path / "run", *words)
        assert words[-2] in capsys.readouterr().err
    assert main(["train", "--out", str(tmp_path / "run"), *BATCHTOPK]) == 2
    assert "WORLD must be given" in capsys.readouterr().err
    assert main(["eval", str(tmp_path)]) == 2
    assert "cfg.json" in capsys.readouterr().err
