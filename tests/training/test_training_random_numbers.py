"""Torch's global random numbers are the caller's: a training neither sets nor rewinds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    ARCHITECTURES,
    BATCH,
    D,
    assert_same_state,
    small_config,
    small_sae,
    small_world,
    state,
)

import synthkern as synthetic
from synthkern.sae import TopKTrainingSAE, TrainStepInput
from synthkern.training import TrainingConfig, train_sae
from synthkern.training.run import TrainingRun
from synthkern.training.together import train_together

STEPS = 8


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(STEPS * BATCH, BATCH, seed=5, lr=1e-2, **changes)


class DrawingSAE(TopKTrainingSAE):
    """Draws at every step, and counts with what it drew."""

    def __init__(self, fails_at: int = -1) -> None:
        torch.manual_seed(2)
        super().__init__(small_config("topk"))  # type: ignore[arg-type]
        self.drawn: list[float] = []
        self._fails_at = fails_at

    def training_forward_pass(self, step_input: Any) -> Any:
        if step_input.n_training_steps == self._fails_at:
            raise KeyboardInterrupt
        number = torch.rand(())
        self.drawn.append(float(number))
        output = super().training_forward_pass(step_input)
        output.loss = output.loss * number
        return output


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the global state was set")

    monkeypatch.setattr(torch, "set_rng_state", never)
    monkeypatch.setattr(torch, "manual_seed", never)


def test_nothing_is_set_by_a_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, world = DrawingSAE(), small_world()
    forbid(monkeypatch)
    train_sae(sae, world, config())
    assert len(set(sae.drawn)) == STEPS


def test_nothing_is_set_by_our_own_together(monkeypatch: pytest.MonkeyPatch) -> None:
    saes, world = [small_sae(name) for name in ARCHITECTURES], small_world()
    forbid(monkeypatch)
    train_together([TrainingRun(sae, world, config()) for sae in saes])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_our_steps_draw_nothing(architecture: str) -> None:
    sae = small_sae(architecture)
    coefficients = dict.fromkeys(sae.get_coefficients(), 0.1)
    dead = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    dead[:4] = True
    before = torch.get_rng_state()
    sae.training_forward_pass(TrainStepInput(torch.ones(3, D), coefficients, dead)).loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_shared_source_draws_moves_on() -> None:
    drawn: list[float] = []

    def modifier(activations: torch.Tensor) -> torch.Tensor:
        drawn.append(float(torch.rand(())))
        return activations

    plain = small_world()
    generator = synthetic.ActivationGenerator(24, 0.1, modify_activations=modifier)
    world = synthetic.SyntheticModel(plain.cfg, activation_generator=generator)
    alone = DrawingSAE()
    train_sae(alone, plain, config())
    saes = [DrawingSAE(), DrawingSAE()]
    torch.manual_seed(2)
    trainings = []
    for sae in saes:
        # Where the one that is alone began.
        torch.set_rng_state(_after_init())
        trainings.append(TrainingRun(sae, world, config()))
    torch.manual_seed(77)
    train_together(trainings)
    assert len(set(drawn)) == len(drawn) >= STEPS
    assert saes[0].drawn == saes[1].drawn == alone.drawn
    # The process's own numbers are those that the source alone has moved on.
    left = float(torch.rand(()))
    torch.manual_seed(77)
    expected = [float(torch.rand(())) for _ in range(len(drawn) + 1)]
    assert [*drawn, left] == expected


def _after_init() -> torch.Tensor:
    DrawingSAE()
    return torch.get_rng_state()


def test_a_resumed_training_draws_on_and_puts_nothing_back(tmp_path: Path) -> None:
    world = small_world()
    whole = DrawingSAE()
    train_sae(whole, world, config())
    torn = DrawingSAE(fails_at=5)
    with pytest.raises(KeyboardInterrupt):
        train_sae(torn, world, config(), checkpoint_dir=tmp_path / "c")
    resumed = DrawingSAE()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    train_sae(resumed, world, config(), checkpoint_dir=tmp_path / "c")
    assert torn.drawn + resumed.drawn == whole.drawn
    assert_same_state(resumed, state(whole))
    # Not set back to what was drawn before: it is where it was.
    assert torch.equal(torch.get_rng_state(), before)
