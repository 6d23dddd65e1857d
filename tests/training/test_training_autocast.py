"""Trainings and evaluations under autocast to bfloat16 on the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from small_training import ARCHITECTURES, eventful_training, small_sae, small_world

import synthkern as synthetic
from synthkern.engine import processor
from synthkern.sae import active

WARNING = "autocast: this processor has no bfloat16 arithmetic"


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_bfloat16", lambda: False)


def trained(architecture: str, *, autocast: bool) -> tuple[synthetic.SAETrainer, Any]:
    """What trained for some steps, and what the last of them gave."""
    world, cfg = small_world(), eventful_training(30, autocast=autocast)
    trainer = synthetic.SAETrainer(small_sae(architecture), cfg)
    for batch in synthetic.SyntheticStream(world, cfg.batch_size, seed=1):
        output = trainer.step(batch)
        if trainer.is_done:
            return trainer, output
    raise AssertionError("a stream has no end")


@pytest.mark.usefixtures("has_bfloat16")
@pytest.mark.parametrize("share", [0.0, 1.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains(
    architecture: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active, "SPARSE_BELOW", share)
    trainer, output = trained(architecture, autocast=True)
    _, exact = trained(architecture, autocast=False)
    # The auxiliary loss jumps where one latent more counts as dead.
    cast, whole = (each.losses["mse_loss"].item() for each in (output, exact))
    assert cast == pytest.approx(whole, rel=0.02)
    assert output.loss.dtype == torch.float32
    if isinstance(output.latents, synthetic.SparseActivations):
        assert output.latents.dtype == torch.float32
    else:
        assert share == 0
    assert {p.dtype for p in trainer.sae.parameters()} == {torch.float32}
    moments = trainer.optimizer.state_dict()["state"].values()
    assert {m["exp_avg"].dtype for m in moments} == {torch.float32}


def evaluated(sae: Any, **arguments: Any) -> synthetic.SyntheticDataEvalResult:
    world = small_world()
    parts = world.feature_dict, world.activation_generator
    return synthetic.eval_sae_on_synthetic_data(sae, *parts, 200, seed=1, **arguments)


@pytest.mark.usefixtures("has_bfloat16")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_evaluated(architecture: str) -> None:
    sae = small_sae(architecture)
    cast, exact = evaluated(sae, autocast=True), evaluated(sae)
    assert cast.true_l0 == exact.true_l0
    assert cast.mcc == exact.mcc
    assert cast.explained_variance == pytest.approx(exact.explained_variance, abs=0.02)
    if architecture != "matching_pursuit":  # whose numbers are exact either way
        assert cast.explained_variance != exact.explained_variance


@pytest.mark.parametrize("autocast", [None, 1, "bfloat16"])
def test_autocast_is_true_or_false(autocast: Any) -> None:
    with pytest.raises(TypeError, match="autocast must be True or False"):
        evaluated(small_sae("topk"), autocast=autocast)


def test_a_processor_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "lacks_bfloat16", lambda: True)
    sae, cfg = small_sae("topk"), eventful_training(1, autocast=True)
    with pytest.warns(UserWarning, match=WARNING) as caught:
        synthetic.SAETrainer(sae, cfg)
    with pytest.warns(UserWarning, match=WARNING) as again:
        evaluated(sae, autocast=True)
    assert {w.filename for w in [*caught, *again]} == {__file__}
    with warnings.catch_warnings(action="error"):
        synthetic.SAETrainer(sae, eventful_training(1))
        evaluated(sae)
