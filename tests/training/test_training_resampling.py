"""Dead latents that begin anew in a training, and what Adam then knows of them."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    ARCHITECTURES,
    BATCH,
    D,
    M,
    assert_same_state,
    eventful_training,
    figures,
    small_sae,
    small_world,
    state,
)

import synthkern as synthetic
from synthkern.training import SAETrainer, TrainingConfig, train_sae
from synthkern.training.resampling import Resampler

DEAD = [2, 7, 19]


class TheirSAE(torch.nn.Module):
    """Has the field's training interface, and an encoder that lies in memory as it is indexed."""

    def __init__(self, subtracts: bool = True) -> None:
        super().__init__()
        self.cfg: Any = type("Config", (), {"d_sae": M, "apply_b_dec_to_input": subtracts})()
        draw = torch.Generator().manual_seed(0)
        self.W_enc = torch.nn.Parameter(torch.randn(D, M, generator=draw))
        self.W_dec = torch.nn.Parameter(torch.randn(M, D, generator=draw))
        self.b_enc = torch.nn.Parameter(torch.randn(M, generator=draw))
        self.b_dec = torch.nn.Parameter(torch.randn(D, generator=draw))

    def get_coefficients(self) -> dict[str, float]:
        return {}

    def training_forward_pass(self, step_input: Any) -> Any:
        x = step_input.sae_in
        acts = ((x - self.b_dec) @ self.W_enc + self.b_enc).relu()
        out = acts @ self.W_dec + self.b_dec
        loss = (out - x).square().sum(dim=1).mean()
        return synthetic.TrainStepOutput(x, out, acts, loss, {"mse_loss": loss})


def trained(sae: Any) -> SAETrainer:
    """A trainer that knows something of every weight, with latents that are dead."""
    trainer = SAETrainer(sae, TrainingConfig(BATCH * 9, BATCH, seed=3, resample_dead_every=100))
    for seed in range(3):
        trainer.step(small_world().sample(BATCH, seed=seed))
    return trainer


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [5, D], and what an SAE made of them: the last is reconstructed as it is."""
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(5, D, generator=draw)
    out = torch.randn(5, D, generator=draw)
    out[4] = x[4]
    return x, out


def moments(trainer: SAETrainer, name: str) -> list[torch.Tensor]:
    """Adam's two of a parameter, as the parameter is indexed."""
    names = [name for name, _ in trainer.sae.named_parameters()]
    optimized = trainer._parameters[names.index(name)]
    known = trainer.optimizer.state[optimized]
    turned = optimized.shape != getattr(trainer.sae, name).shape
    return [known[m].T if turned else known[m] for m in ("exp_avg", "exp_avg_sq")]


@pytest.mark.parametrize("kind", ["ours", "theirs", "no bias subtracted"])
def test_new_weights_are_those_of_the_paper_and_adam_forgets_the_old(kind: str) -> None:
    sae: Any = small_sae("standard") if kind == "ours" else TheirSAE(kind == "theirs")
    trainer = trained(sae)
    dead = torch.zeros(M, dtype=torch.bool)
    dead[DEAD] = True
    before, known = state(sae), {n: moments(trainer, n) for n, _ in sae.named_parameters()}
    known = {name: [m.clone() for m in both] for name, both in known.items()}
    x, out = batch()
    assert trainer._resampler is not None
    found = trainer._resampler.resample(dead, x, out, 7)
    assert found.tolist() == DEAD
    inputs = x if kind == "no bias subtracted" else x - sae.b_dec.detach()
    directions = inputs / inputs.norm(dim=1, keepdim=True)
    chosen = [
        next(i for i in range(4) if torch.allclose(directions[i], sae.W_dec[latent]))
        for latent in DEAD
    ]
    assert len(set(chosen)) == 3
    norm = 0.2 * before["W_enc"][:, ~dead].norm(dim=0).mean()
    torch.testing.assert_close(sae.W_enc[:, DEAD].detach(), norm * directions[chosen].T)
    assert not sae.b_enc[DEAD].any()
    for name, alive in (("W_dec", sae.W_dec[~dead]), ("b_enc", sae.b_enc[~dead])):
        assert torch.equal(alive, before[name][~dead]), name
    assert torch.equal(sae.W_enc[:, ~dead], before["W_enc"][:, ~dead])
    assert torch.equal(sae.b_dec, before["b_dec"])
    for name, both in known.items():
        for old, now in zip(both, moments(trainer, name), strict=True):
            if name == "b_dec":
                assert torch.equal(now, old)
                continue
            old, now = (m.T if name == "W_enc" else m for m in (old, now))
            assert not now[dead].any(), name
            assert torch.equal(now[~dead], old[~dead]), name
            assert bool(old[~dead].any()), name


@pytest.mark.parametrize(
    ("architecture", "start"),
    [("gated", {"b_gate": 0.0, "b_mag": 0.0, "r_mag": 0.0}), ("jumprelu", {"threshold": 0.01})],
)
def test_what_else_a_latent_has_begins_anew(architecture: str, start: dict[str, float]) -> None:
    sae: Any = small_sae(architecture)
    trainer = trained(sae)
    assert trainer._resampler is not None
    before = state(sae)
    dead = torch.zeros(M, dtype=torch.bool)
    dead[DEAD] = True
    trainer._resampler.resample(dead, *batch(), 7)
    for name, value in start.items():
        vector = getattr(sae, name).detach()
        assert torch.equal(vector[DEAD], torch.full((3,), value))
        assert torch.equal(vector[~dead], before[name][~dead])
        assert bool((before[name][DEAD] != value).any())
        for moment in moments(trainer, name):
            assert not moment[DEAD].any()


def test_a_tied_encoder_is_the_decoder() -> None:
    sae: Any = small_sae("matching_pursuit")
    trainer = trained(sae)
    assert trainer._resampler is not None
    assert len(trainer._resampler.resample(torch.arange(M) == 4, *batch(), 7)) == 1
    torch.testing.assert_close(sae.W_enc[:, 4].norm(), torch.tensor(1.0))
    assert not any(moment[4].any() for moment in moments(trainer, "W_dec"))


def test_inputs_are_drawn_by_the_square_of_their_error() -> None:
    """Errors of 1, 2 and 3 have the weights 1, 4 and 9, errors of 0 none; within 4 sigma."""
    x = torch.eye(4, D)
    out = x.clone()
    out[:3, 11] += torch.tensor([1.0, 2.0, 3.0]).sqrt()
    sae = TheirSAE(subtracts=False)
    dead = torch.arange(M) == 5
    optimizer = torch.optim.Adam(sae.parameters())
    resampler = Resampler(sae, optimizer, list(sae.parameters()), seed=1)
    counts, draws = torch.zeros(D), 1400
    for step in range(draws):
        resampler.resample(dead, x, out, step)
        counts += sae.W_dec[5].detach()
    for count, share in zip(counts[:4].tolist(), (1 / 14, 4 / 14, 9 / 14, 0), strict=True):
        assert abs(count - share * draws) <= 4 * math.sqrt(draws * share * (1 - share))


def test_no_input_is_drawn_twice_and_the_others_wait() -> None:
    sae, (x, out) = TheirSAE(), batch()
    resampler = Resampler(sae, torch.optim.Adam(sae.parameters()), list(sae.parameters()), 0)
    everything = torch.ones(M, dtype=torch.bool)
    assert resampler.resample(everything, x, out, 1).tolist() == [0, 1, 2, 3]
    assert torch.linalg.matrix_rank(sae.W_dec[:4].detach()) == 4
    before = state(sae)
    for dead, made in ((~everything, out), (everything, x)):
        assert resampler.resample(dead, x, made, 2).tolist() == []
    assert_same_state(sae, before)


def settings(steps: int = 40, **changes: Any) -> TrainingConfig:
    return eventful_training(
        steps, **{"resample_dead_every": 10, "dead_feature_window": 3, **changes}
    )


def quiet(architecture: str) -> Any:
    """An SAE of which latents 0 to 3 never fire by themselves."""
    sae: Any = small_sae(architecture)
    with torch.no_grad():
        sae.W_dec[:4] *= 1e-12
        if "W_enc" in dict(sae.named_parameters()):
            sae.W_enc[:, :4] *= 1e-12
        for name in ("b_enc", "b_gate"):
            if hasattr(sae, name):
                getattr(sae, name)[:4] = -9
    return sae


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_resampled_and_goes_on_from_a_checkpoint(
    architecture: str, tmp_path: Path
) -> None:
    world = small_world()
    whole, without = quiet(architecture), quiet(architecture)
    torch.manual_seed(9)
    outside = torch.get_rng_state()
    expected = train_sae(whole, world, settings())
    assert torch.equal(torch.get_rng_state(), outside)
    train_sae(without, world, settings(resample_dead_every=None))
    assert not torch.equal(whole.W_dec[:4], without.W_dec[:4])

    def interrupts(sae: Any, scaler: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    for every in (10, 15):  # right after a resampling, and between two
        place, cfg = tmp_path / str(every), settings(eval_every=every, eval_samples=50)
        with pytest.raises(KeyboardInterrupt):
            train_sae(quiet(architecture), world, cfg, checkpoint_dir=place, evaluator=interrupts)
        resumed = quiet(architecture)
        got = train_sae(resumed, world, cfg, checkpoint_dir=place, evaluator=lambda *_: {})
        assert_same_state(resumed, state(whole))
        rows = [row for row in figures(got.history) if "loss" in row]
        assert rows == [row for row in figures(expected.history) if "loss" in row]


def test_when_and_how_long_latents_count_as_alive() -> None:
    trainer = SAETrainer(quiet("standard"), settings(dead_feature_window=9, lr=0.0))
    world, resampled = small_world(), []
    for step in range(40):
        before = trainer.sae.W_dec.detach().clone()
        trainer.step(world.sample(BATCH, seed=step))
        if not torch.equal(trainer.sae.W_dec, before):
            resampled.append(trainer.steps_done)
            assert int(trainer.dead_neurons.sum()) == 0
    # Not after the last step, which nothing would follow.
    assert resampled[0] == 10
    assert set(resampled) <= {10, 20, 30}


def test_a_seed_that_nobody_gave_is_recorded() -> None:
    saes = [quiet("topk") for _ in range(3)]
    one, other = (SAETrainer(sae, settings(seed=None)) for sae in saes[:2])
    assert one.state_dict()["resampling_seed"] != other.state_dict()["resampling_seed"]
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert one.state_dict()["resampling_seed"] == other.state_dict()["resampling_seed"]
    before = torch.get_rng_state()
    plain = SAETrainer(saes[2], settings(seed=None, resample_dead_every=None))
    assert plain.state_dict()["resampling_seed"] is None
    assert torch.equal(torch.get_rng_state(), before)


class WithoutEncoder(TheirSAE):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.W_enc
        del self.W_enc


class Wide(TheirSAE):
    def __init__(self) -> None:
        super().__init__()
        self.W_dec = torch.nn.Parameter(torch.zeros(M, D + 1))


class Frozen(TheirSAE):
    def __init__(self) -> None:
        super().__init__()
        self.W_dec.requires_grad_(False)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WithoutEncoder, "WithoutEncoder has {.*'W_dec': .20, 12."),
        (Wide, r"Wide has W_enc \[12, 20\] and W_dec \[20, 13\]"),
        (Frozen, "Frozen does not train W_dec"),
    ],
)
def test_saes_without_such_weights_are_refused(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"resample_dead_every must be None .*{text}"):
        SAETrainer(kind(), settings())
    SAETrainer(kind(), settings(resample_dead_every=None))


@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
def test_a_wrong_number_of_steps_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="resample_dead_every must be"):
        TrainingConfig(resample_dead_every=value)
