"""SAELens' trainer beside ours: it trains our SAEs, and snapshots see the same of both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("sae_lens.synthetic")
    import sae_lens.synthetic as saelens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

D, M, B, STEPS = 8, 16, 32, 30

FIELDS: dict[str, dict[str, Any]] = {
    "standard": {"l1_coefficient": 0.1, "l1_warm_up_steps": 7},
    "topk": {"k": 2},
    "batchtopk": {"k": 2},
    "matryoshka_batchtopk": {"k": 2, "matryoshka_widths": [4, M]},
    "jumprelu": {"l0_coefficient": 0.1, "l0_warm_up_steps": 5, "pre_act_loss_coefficient": 1e-3},
    "gated": {"l1_coefficient": 0.1, "l1_warm_up_steps": 3},
    "matching_pursuit": {"max_iterations": 2},
}

every = pytest.mark.parametrize("name", FIELDS)


def ours(name: str, **changes: Any) -> Any:
    data = {"architecture": name, "d_in": D, "d_sae": M, **FIELDS[name], **changes}
    torch.manual_seed(1)
    return synthetic.make_sae(synthetic.TrainingSAEConfig.from_dict(data))


def theirs(name: str, **changes: Any) -> Any:
    sae_class, config_class = get_sae_training_class(name)
    torch.manual_seed(1)
    return sae_class(config_class(d_in=D, d_sae=M, **FIELDS[name], **changes))


def batches() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    atoms = torch.randn(20, D, generator=generator)
    while True:
        yield (torch.rand(B, 20, generator=generator) < 0.1).float() @ atoms


def trained_there(sae: Any, look: Callable[[Any], None] | None = None, **changes: Any) -> Any:
    cfg = SAETrainerConfig(
        total_training_samples=STEPS * B,
        train_batch_size_samples=B,
        lr=1e-3,
        lr_end=1e-3,
        dead_feature_window=5,
        feature_sampling_window=12,
        checkpoint_path=None,
        n_checkpoints=0 if look is None else 3,
        n_batches_for_norm_estimate=4,
        logger=LoggingConfig(log_to_wandb=False),
        **changes,
    )
    trainer: Any = None

    def copy(checkpoint_path: Any) -> None:
        if look is not None:
            look(trainer)

    trainer = SAETrainer(cfg, sae, batches(), save_checkpoint_fn=copy)
    return trainer.fit()


def trained_here(sae: Any, look: Callable[[Any], None] | None = None, **changes: Any) -> Any:
    cfg = synthetic.TrainingConfig(
        STEPS * B,
        B,
        lr=1e-3,
        lr_end=1e-3,
        dead_feature_window=5,
        feature_sampling_window=12,
        max_grad_norm=1.0,
        n_snapshots=0 if look is None else 3,
        n_batches_for_norm_estimate=4,
        **changes,
    )
    return synthetic.train_sae(sae, batches(), cfg, snapshot_fn=look).sae


def assert_close(one: Any, other: Any) -> None:
    wanted = other.state_dict()
    for key, value in one.state_dict().items():
        # Adam moves a weight by the rate at most, whichever way a tiny gradient is rounded.
        torch.testing.assert_close(value.float(), wanted[key].float(), rtol=1e-3, atol=1e-4)


@every
def test_its_trainer_trains_our_saes_as_its_own(name: str) -> None:
    sae = trained_there(ours(name))
    assert_close(sae, trained_there(theirs(name)))
    assert sae.cfg.metadata.l0 > 0
    assert sae.cfg.metadata["num_dead_features"] >= 0


@every
def test_its_trainer_ends_where_ours_does(name: str) -> None:
    assert_close(trained_there(ours(name)), trained_here(ours(name)))


@pytest.mark.parametrize("name", ["topk", "jumprelu", "matching_pursuit"])
def test_it_folds_the_scale_of_the_inputs_into_ours(name: str) -> None:
    scaled = {"normalize_activations": "expected_average_only_in"}
    there = trained_there(ours(name, **scaled))
    assert there.cfg.normalize_activations == "none"
    assert_close(there, trained_here(ours(name, **scaled)))


def test_our_saes_in_its_toy_training() -> None:
    sae = ours("topk")
    torch.manual_seed(0)
    features = saelens.FeatureDictionary(20, D)
    generator = saelens.ActivationGenerator(20, 0.2)
    before = sae.W_dec.detach().clone()
    saelens.train_toy_sae(sae, features, generator, training_samples=4 * B, batch_size=B)
    assert not torch.equal(sae.W_dec, before)


@every
def test_snapshots_see_the_same_of_both_trainers(name: str) -> None:
    def seen_by(train: Callable[..., Any], sae: Any) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []

        def look(trainer: Any) -> None:
            seen.append(
                {
                    "steps": trainer.n_training_steps,
                    "samples": trainer.n_training_samples,
                    "window": trainer.n_frac_active_samples,
                    "firings": trainer.act_freq_scores.clone(),
                    "silent": trainer.n_forward_passes_since_fired.clone(),
                    "dead": trainer.dead_neurons.clone(),
                    "sparsity": trainer.feature_sparsity.clone(),
                    "log sparsity": trainer.log_feature_sparsity.clone(),
                    "rate": trainer.lr_scheduler.get_last_lr(),
                    "epoch": trainer.lr_scheduler.last_epoch,
                    "coefficients": trainer.get_coefficients(),
                    "optimizer": trainer.optimizer.param_groups[0]["lr"],
                    "asked": trainer.cfg.total_training_samples,
                    "batch": trainer.cfg.train_batch_size_samples,
                    "next batch": next(trainer.data_provider),
                    "on the CPU": trainer.cfg.device == "cpu",
                    "snapshots": trainer.cfg.n_checkpoints,
                    "warm-ups": {
                        loss: torch.tensor(
                            [each.final_value, each.warm_up_steps, each.current_value]
                        )
                        for loss, each in trainer.coefficient_schedulers.items()
                    },
                    "warm-up steps": [
                        each.current_step for each in trainer.coefficient_schedulers.values()
                    ],
                    "scale": trainer.activation_scaler.scaling_factor,
                    "sae": trainer.sae is sae,
                }
            )

        train(sae, look, lr_warm_up_steps=9, lr_decay_steps=16)
        return seen

    here, there = seen_by(trained_here, theirs(name)), seen_by(trained_there, theirs(name))
    assert len(here) == len(there) == 3
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            # A latent may fire or not by a pre-activation's rounding.
            torch.testing.assert_close(value, other[key], msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize(("warm_up", "decay"), [(50, 0), (0, 50), (20, 20), (50, 50), (30, 10)])
def test_schedules_longer_than_the_training(warm_up: int, decay: int) -> None:
    changes = {"lr_warm_up_steps": warm_up, "lr_decay_steps": decay}
    there = trained_there(theirs("standard"), **changes)
    assert_close(trained_here(theirs("standard"), **changes), there)


def test_a_rate_of_zero_and_samples_as_a_float() -> None:
    for library in (synthetic, saelens):
        sae = theirs("topk")
        before = sae.W_dec.detach().clone()
        torch.manual_seed(0)
        parts = library.FeatureDictionary(20, D), library.ActivationGenerator(20, 0.2)
        library.train_toy_sae(sae, *parts, training_samples=1e2, batch_size=B, lr=0)
        assert torch.equal(sae.W_dec, before)


def test_figures_have_its_names_in_weights_and_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    there: set[str] = set()
    monkeypatch.setattr(wandb, "log", lambda row, step=None: there.update(row))
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=12 * B,
            train_batch_size_samples=B,
            lr=1e-3,
            lr_end=1e-3,
            feature_sampling_window=6,
            logger=LoggingConfig(log_to_wandb=True, wandb_log_frequency=4),
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
        ),
        theirs("jumprelu"),
        batches(),
    )
    trainer.fit()

    class Run:
        def __init__(self) -> None:
            self.names: set[str] = set()

        def log(self, row: dict[str, float], step: int) -> None:
            self.names.update(row)

    run = Run()
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    cfg = synthetic.TrainingConfig(
        12 * B, B, lr=1e-3, feature_sampling_window=6, log_every=4, max_grad_norm=1.0
    )
    synthetic.train_sae(theirs("jumprelu"), batches(), cfg, logger=synthetic.WandbLogger("x"))
    left_out = {
        # Not of a batch's variance but of each sample's squares, by which SAELens no longer goes.
        "metrics/explained_variance_legacy",
        "metrics/explained_variance_legacy_std",
        # Pictures, which the curves do not have.
        "plots/feature_density_line_chart",
    }
    histograms = {name for name in there if name.startswith("weights/")}
    assert there - run.names - histograms == left_out
    assert run.names - there == {"details/samples_per_second"}


def test_the_toy_training_learns_as_much_as_its_own() -> None:
    """64 features in 32 dimensions, 3,000 batches of 64."""
    sae_class, config_class = get_sae_training_class("batchtopk")
    makers: dict[Any, Callable[[], Any]] = {
        synthetic: lambda: synthetic.make_sae(synthetic.BatchTopKTrainingSAEConfig(32, 64, k=3)),
        saelens: lambda: sae_class(config_class(d_in=32, d_sae=64, k=3)),
    }
    found = []
    for library, make in makers.items():
        torch.manual_seed(0)
        features = library.FeatureDictionary(64, 32)
        generator = library.ActivationGenerator(64, 0.05)
        sae = make()
        library.train_toy_sae(sae, features, generator, 3000 * 64, 64, lr=1e-3)
        result = library.eval_sae_on_synthetic_data(sae, features, generator, 10_000)
        found.append(torch.tensor([result.explained_variance, result.mcc]))
    # Both figures differ by 0.02 (one sigma) from seed to seed; four of the difference.
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=4 * 2**0.5 * 0.02)
