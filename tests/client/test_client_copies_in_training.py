"""A copy that was written while a training scales its inputs works on inputs as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic

D, M, B = 8, 16, 64


def world() -> synthetic.SyntheticModel:
    cfg = synthetic.SyntheticModelConfig(num_features=20, hidden_dim=D, seed=0)
    generator = synthetic.ActivationGenerator(20, 0.3, mean_firing_magnitudes=5.0)
    return synthetic.SyntheticModel(cfg, activation_generator=generator)


def config(name: str) -> Any:
    scaled = {"normalize_activations": "expected_average_only_in"}
    if name == "batchtopk":
        return synthetic.BatchTopKTrainingSAEConfig(
            D, M, k=3, topk_threshold_lr=0.3, rescale_acts_by_decoder_norm=True, **scaled
        )
    return synthetic.JumpReLUTrainingSAEConfig(D, M, jumprelu_init_threshold=0.5, **scaled)


def inference(sae: Any, folder: Path) -> Any:
    sae.save_inference_model(folder)
    return synthetic.TrainingSAE.load_from_disk(folder)


def l0(sae: Any, x: torch.Tensor) -> float:
    return float(sae.encode(x).count_nonzero()) / len(x)


@pytest.mark.parametrize("name", ["batchtopk", "jumprelu"])
def test_a_copy_has_the_l0_of_the_training(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = world()
    cfg = synthetic.SyntheticSAERunnerConfig(
        model.cfg,
        config(name),
        training_samples=40 * B,
        batch_size=B,
        lr=1e-3,
        seed=3,
        n_checkpoints=1,
        checkpoint_path=str(tmp_path),
        output_path=None,
        run_final_eval=False,
        n_batches_for_norm_estimate=5,
    )
    synthetic.SyntheticSAERunner(cfg, model).run()
    (folder,) = tmp_path.iterdir()
    copied = synthetic.TrainingSAE.load_from_disk(folder)
    assert copied.cfg.normalize_activations == "none"
    read = inference(copied, tmp_path / "of the copy")

    # The same training, looked at where the copy was written.
    torch.manual_seed(1)
    sae = synthetic.make_sae(config(name))
    model, found = world(), []
    x = model.sample(500, seed=9)

    def look(trainer: synthetic.SAETrainer) -> None:
        scaled = trainer.activation_scaler(x)
        then = inference(trainer.sae, tmp_path / "then")
        found.append((l0(then, scaled), trainer.activation_scaler.unscale(then(scaled))))

    synthetic.train_sae(
        sae,
        model,
        synthetic.TrainingConfig(
            40 * B,
            B,
            seed=3,
            lr=1e-3,
            max_grad_norm=1.0,
            n_snapshots=1,
            n_batches_for_norm_estimate=5,
        ),
        snapshot_fn=look,
    )
    ((expected, outputs),) = found
    # A choice that is close may fall the other way by the scale's rounding.
    assert l0(read, x) == pytest.approx(expected, abs=0.01)
    torch.testing.assert_close(read(x), outputs, rtol=1e-3, atol=1e-3)


def test_a_snapshots_trainer_gives_batches_of_a_model() -> None:
    shapes: list[tuple[int, ...]] = []
    synthetic.train_sae(
        synthetic.make_sae(config("jumprelu")),
        world(),
        synthetic.TrainingConfig(6 * B, B, n_snapshots=2),
        snapshot_fn=lambda trainer: shapes.append(tuple(next(trainer.data_provider).shape)),
    )
    assert shapes == [(B, D)] * 2
