"""The field's SAEs trained here, against the field's own trainer on the same batches."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import ARCHITECTURES, BATCH, D, M, small_config, small_world, state

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("sae_lens.synthetic")
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAE
    from sae_lens.training.sae_trainer import SAETrainer

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

STEPS = 30


def peer_sae(architecture: str, **changes: Any) -> Any:
    sae_class, config_class = get_sae_training_class(architecture)
    ours = small_config(architecture, **changes).to_dict()
    torch.manual_seed(1)
    return sae_class(config_class.from_dict({**ours, "metadata": {}}))


def peer_trained(sae: Any, **changes: Any) -> Any:
    cfg = SAETrainerConfig(
        total_training_samples=STEPS * BATCH,
        train_batch_size_samples=BATCH,
        lr=1e-3,
        lr_end=1e-3,
        dead_feature_window=5,
        logger=LoggingConfig(log_to_wandb=False),
        **changes,
    )
    stream = synthetic.SyntheticStream(small_world(), BATCH, 5)
    return SAETrainer(cfg, sae, iter(stream)).fit()


def settings(**changes: Any) -> synthetic.TrainingConfig:
    return synthetic.TrainingConfig(
        STEPS * BATCH, BATCH, seed=5, lr=1e-3, dead_feature_window=5, max_grad_norm=1.0, **changes
    )


def assert_close(got: Any, expected: Any) -> None:
    wanted = state(expected)
    for name, value in state(got).items():
        # Adam moves a weight by lr a step at most, whichever way rounding turns a tiny gradient.
        torch.testing.assert_close(
            value.float(), wanted[name].float(), rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_saes_end_as_in_its_own_trainer(architecture: str) -> None:
    here = peer_sae(architecture)
    synthetic.train_sae(here, small_world(), settings())
    assert_close(here, peer_trained(peer_sae(architecture)))
    assert here.cfg.metadata.l0 > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_our_saes_end_as_its_saes(architecture: str) -> None:
    torch.manual_seed(1)
    here = synthetic.make_sae(small_config(architecture))
    synthetic.train_sae(here, small_world(), settings())
    assert_close(here, peer_trained(peer_sae(architecture)))


def test_schedules_and_decay_are_its_own() -> None:
    schedule: dict[str, Any] = {
        "lr_scheduler_name": "cosineannealing",
        "lr_warm_up_steps": 5,
        "lr_decay_steps": 7,
    }
    here = peer_sae("standard")
    synthetic.train_sae(here, small_world(), settings(lr_end=1e-3, **schedule))
    assert_close(here, peer_trained(peer_sae("standard"), **schedule))


def test_it_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole = peer_sae("batchtopk")
    synthetic.train_sae(whole, small_world(), settings())

    def interrupts(sae: Any, scaler: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    changes: dict[str, Any] = {"eval_every": 11, "eval_samples": 20}
    with pytest.raises(KeyboardInterrupt):
        synthetic.train_sae(
            peer_sae("batchtopk"),
            small_world(),
            settings(**changes),
            checkpoint_dir=tmp_path / "c",
            evaluator=interrupts,
        )
    again = peer_sae("batchtopk")
    synthetic.train_sae(again, small_world(), settings(**changes), checkpoint_dir=tmp_path / "c")
    for name, value in state(whole).items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_runner_and_train_toy_sae_take_them(tmp_path: Path) -> None:
    world, sae = (
        small_world(),
        peer_sae("batchtopk", normalize_activations="expected_average_only_in"),
    )
    cfg = synthetic.SyntheticSAERunnerConfig(
        world.cfg,
        sae.cfg,
        training_samples=5 * BATCH,
        batch_size=BATCH,
        n_batches_for_norm_estimate=3,
        eval_samples=100,
        output_path=str(tmp_path / "out"),
        checkpoint_path=None,
        logger=LoggingConfig(log_to_wandb=False),
    )
    assert isinstance(synthetic.SyntheticSAERunner(cfg, world).sae, synthetic.BatchTopKTrainingSAE)
    result = synthetic.SyntheticSAERunner(cfg, world, sae).run()
    assert result.sae is sae
    assert SAE.load_from_disk(tmp_path / "out").W_dec.shape == (M, D)
    taken: list[int] = []
    synthetic.train_toy_sae(
        peer_sae("topk"),
        world.feature_dict,
        world.activation_generator,
        4 * BATCH,
        BATCH,
        n_snapshots=1,
        snapshot_fn=lambda trainer: taken.append(trainer.n_training_samples),
    )
    assert taken == [3 * BATCH]
