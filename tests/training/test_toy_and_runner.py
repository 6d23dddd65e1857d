"""The field's two ways to train: train_toy_sae, and the runner with its outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_training import (
    BATCH,
    D,
    M,
    assert_same_state,
    small_config,
    small_sae,
    small_world,
    state,
)

import synthkern as synthetic
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.sae import JumpReLUTrainingSAE, StandardTrainingSAE, TrainingSAE
from synthkern.training import TrainingHistory


@pytest.fixture(scope="module")
def world() -> synthetic.SyntheticModel:
    return small_world()


def runner_config(tmp_path: Path, **changes: Any) -> synthetic.SyntheticSAERunnerConfig:
    values: dict[str, Any] = {
        "synthetic_model": small_world().cfg,
        "sae": small_config("batchtopk"),
        "training_samples": 10 * BATCH,
        "batch_size": BATCH,
        "seed": 4,
        "lr": 1e-2,
        "eval_samples": 300,
        "output_path": str(tmp_path / "out"),
        "checkpoint_path": str(tmp_path / "copies"),
    }
    return synthetic.SyntheticSAERunnerConfig(**{**values, **changes})


def test_a_toy_training_follows_from_the_global_seed(world: synthetic.SyntheticModel) -> None:
    saes = []
    for seed in (3, 3, 4):
        sae = small_sae("standard")
        torch.manual_seed(seed)
        synthetic.train_toy_sae(
            sae, world.feature_dict, world.activation_generator, 20 * BATCH, BATCH, lr=1e-2
        )
        saes.append(sae)
    assert_same_state(saes[1], state(saes[0]))
    assert not torch.equal(saes[2].W_dec, saes[0].W_dec)


def test_a_toy_training_learns_the_dictionary() -> None:
    """Orthogonal features: each latent becomes one of them."""
    features = synthetic.FeatureDictionary.from_vectors(torch.eye(8), torch.zeros(8))
    generator = synthetic.ActivationGenerator(8, 0.2, std_firing_magnitudes=0.1)
    torch.manual_seed(0)
    sae = StandardTrainingSAE(synthetic.StandardTrainingSAEConfig(8, 8, l1_coefficient=0.3))
    taken: list[int] = []
    result = synthetic.train_toy_sae(
        sae,
        features,
        generator,
        training_samples=400_000,
        batch_size=256,
        lr=3e-3,
        lr_warm_up_steps=10,
        lr_decay_steps=200,
        n_snapshots=2,
        snapshot_fn=lambda trainer: taken.append(trainer.n_training_steps),
    )
    figures = synthetic.eval_sae_on_synthetic_data(sae, features, generator, 20_000, seed=1)
    assert figures.mcc > 0.99
    assert figures.uniqueness == 1
    assert figures.classification.f1_score > 0.95
    # Before the step is counted, as SAELens has it.
    assert taken == [520, 1041]
    assert result.history.curve("lr")[1][-1] < 3e-3 / 100


def test_a_toy_training_checks_its_arguments(world: synthetic.SyntheticModel) -> None:
    parts = (small_sae("topk"), world.feature_dict, world.activation_generator)
    with pytest.raises(ValueError, match="snapshot_fn must be given"):
        synthetic.train_toy_sae(*parts, n_snapshots=1)
    with pytest.raises(ValueError, match="batch_size"):
        synthetic.train_toy_sae(*parts, batch_size=0)
    with pytest.raises(ValueError, match="activations_generator must have 24 features"):
        synthetic.train_toy_sae(parts[0], parts[1], synthetic.ActivationGenerator(5, 0.1))


def test_a_run_writes_everything_that_can_be_read_again(tmp_path: Path) -> None:
    torch.manual_seed(1)
    cfg = runner_config(tmp_path, save_synthetic_model=True, eval_frequency=5)
    result = synthetic.SyntheticSAERunner(cfg).run()
    out = tmp_path / "out"
    assert result.output_path == out
    assert {path.name for path in out.iterdir()} == {
        "cfg.json",
        "checkpoint",
        "eval_per_latent.csv",
        "eval_stats.json",
        "runner_config.json",
        "sae_weights.safetensors",
        "sparsity.safetensors",
        "synthetic_model",
        "training_history.json",
    }
    read = json.loads((out / "runner_config.json").read_text())
    again = synthetic.SyntheticSAERunnerConfig.from_dict(read)
    assert again.to_dict() == cfg.to_dict()
    sae = TrainingSAE.load_from_disk(out)
    assert isinstance(sae, JumpReLUTrainingSAE)
    model = synthetic.SyntheticModel.load_from_disk(out / "synthetic_model")
    assert torch.equal(model.sample(5, seed=1), result.synthetic_model.sample(5, seed=1))
    sparsity = safetensors.torch.load_file(out / "sparsity.safetensors")["sparsity"]
    assert sparsity.shape == (M,)
    # 2.5 of a sample's latents, on average.
    assert float((10**sparsity).sum()) == pytest.approx(2.5, rel=1e-5)
    assert result.sae.cfg.metadata["l0"] == pytest.approx(2.5, rel=1e-5)
    history = TrainingHistory.load(out / "training_history.json")
    assert history.rows == result.history.rows
    assert history.curve("eval/mcc", by="step")[0] == [5, 10]
    stored = read_evaluation(out)
    assert result.final_eval is not None
    assert stored.to_dict() == result.final_eval.to_dict()


def test_the_outcome_is_that_of_its_parts(tmp_path: Path) -> None:
    torch.manual_seed(1)
    result = synthetic.SyntheticSAERunner(runner_config(tmp_path)).run()
    torch.manual_seed(1)
    model = synthetic.SyntheticModel(small_world().cfg)
    sae = synthetic.make_sae(small_config("batchtopk"))
    synthetic.train_sae(
        sae,
        model,
        synthetic.TrainingConfig(
            10 * BATCH, BATCH, seed=4, lr=1e-2, max_grad_norm=1.0, eval_samples=300
        ),
    )
    assert_same_state(result.sae, state(sae))
    direct = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 300, BATCH, seed=4, start=2**63
    )
    assert result.final_eval is not None
    assert result.final_eval.to_dict() == direct.to_dict()


def test_a_run_is_continued_only_where_that_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = synthetic.SyntheticSAERunner(runner_config(tmp_path)).run()
    # Other weights at the start: resumed, the finished run's are there; otherwise not.
    torch.manual_seed(2)
    resumed = synthetic.SyntheticSAERunner(runner_config(tmp_path, resume=True)).run()
    assert_same_state(resumed.sae, state(whole.sae))
    torch.manual_seed(2)
    fresh = synthetic.SyntheticSAERunner(runner_config(tmp_path)).run()
    assert not torch.equal(fresh.sae.W_dec, whole.sae.W_dec)


def test_copies_on_the_way(tmp_path: Path) -> None:
    cfg = runner_config(tmp_path, n_checkpoints=2, save_final_checkpoint=True, output_path=None)
    result = synthetic.SyntheticSAERunner(cfg).run()
    assert result.output_path is None
    names = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert names == ["256", "448", "final_640"]
    last = TrainingSAE.load_from_disk(tmp_path / "copies" / "final_640")
    assert_same_state(last, state(result.sae))
    assert (tmp_path / "copies" / "256" / "sparsity.safetensors").exists()
    assert (tmp_path / "copies" / "448" / "runner_config.json").exists()


def test_parts_may_be_given(tmp_path: Path, world: synthetic.SyntheticModel) -> None:
    sae = small_sae("gated")
    cfg = runner_config(tmp_path, output_path=None, run_final_eval=False)
    result = synthetic.SyntheticSAERunner(cfg, world, sae).run()
    assert result.sae is sae
    assert result.synthetic_model is world
    assert result.final_eval is None
    cfg = runner_config(tmp_path, sae=synthetic.StandardTrainingSAEConfig(9, M))
    with pytest.warns(UserWarning, match="d_in is set to the model's hidden_dim 12, it was 9"):
        runner = synthetic.SyntheticSAERunner(cfg)
    assert runner.sae.W_dec.shape == (M, D)


def test_runner_configs_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="synthetic_model must be a SyntheticModelConfig"):
        runner_config(tmp_path, synthetic_model=3)
    with pytest.raises(TypeError, match="sae must be an SAE's config"):
        runner_config(tmp_path, sae="batchtopk")
    with pytest.raises(ValueError, match="checkpoint_path must be a folder"):
        runner_config(tmp_path, checkpoint_path=None, n_checkpoints=1)
    with pytest.raises(ValueError, match="output_path must be a folder with resume"):
        runner_config(tmp_path, output_path=None, resume=True)
    with pytest.raises(ValueError, match=r"^lr "):
        runner_config(tmp_path, lr=-1)
    with pytest.raises(TypeError, match="logger must have log_to_wandb"):
        runner_config(tmp_path, logger=object())
    data = runner_config(tmp_path).to_dict()
    with pytest.raises(ValueError, match=r"unknown keys \['speed'\]"):
        synthetic.SyntheticSAERunnerConfig.from_dict({**data, "speed": 1})
    for name in ("sae", "synthetic_model"):
        rest = {key: value for key, value in data.items() if key != name}
        with pytest.raises(ValueError, match=f"d must have {name}"):
            synthetic.SyntheticSAERunnerConfig.from_dict(rest)


def test_an_evaluation_without_samples_keeps_its_gaps(
    tmp_path: Path, world: synthetic.SyntheticModel
) -> None:
    result = synthetic.eval_sae_on_synthetic_data(
        small_sae("standard"), world.feature_dict, world.activation_generator, 1, seed=0
    )
    write_evaluation(tmp_path, result)
    back = read_evaluation(tmp_path)
    assert back.per_latent is not None
    assert result.per_latent is not None
    assert repr(back.to_dict()) == repr(result.to_dict())
    assert (back.per_latent.matched_feature == result.per_latent.matched_feature).all()
    assert (back.per_latent.recall == result.per_latent.recall).all()
    (tmp_path / "eval_stats.json").write_text("[]")
    with pytest.raises(ValueError, match=r"eval_stats.json: this must be an evaluation"):
        read_evaluation(tmp_path)
