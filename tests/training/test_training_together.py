"""Trainings on one stream of batches end as each does alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    ARCHITECTURES,
    BATCH,
    assert_same_state,
    figures,
    small_config,
    small_sae,
    small_world,
)

from synthkern.sae import TopKTrainingSAE, make_sae
from synthkern.training import TrainingConfig, train_sae
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.together import train_together

STEPS = 12


def config(**changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "training_samples": STEPS * BATCH,
        "batch_size": BATCH,
        "seed": 5,
        "lr": 1e-2,
        "log_every": 3,
    }
    return TrainingConfig(**{**settings, **changes})


class WritingSAE(TopKTrainingSAE):
    """Writes into its input, and draws from torch's random numbers at every step."""

    def training_forward_pass(self, step_input: Any) -> Any:
        step_input.sae_in += torch.rand(())
        return super().training_forward_pass(step_input)


class FailingSAE(TopKTrainingSAE):
    def training_forward_pass(self, step_input: Any) -> Any:
        if step_input.n_training_steps == 4:
            raise ZeroDivisionError("a bug")
        return super().training_forward_pass(step_input)


class InterruptedSAE(TopKTrainingSAE):
    armed = True

    def training_forward_pass(self, step_input: Any) -> Any:
        if step_input.n_training_steps == 7 and self.armed:
            raise KeyboardInterrupt
        return super().training_forward_pass(step_input)


def of_class(kind: type[TopKTrainingSAE], seed: int) -> TopKTrainingSAE:
    torch.manual_seed(seed)
    return kind(small_config("topk"))


def test_every_architecture_ends_as_alone() -> None:
    world = small_world()
    alone = [train_sae(small_sae(name), world, config()) for name in ARCHITECTURES]
    together = train_together(
        [TrainingRun(small_sae(name), world, config()) for name in ARCHITECTURES]
    )
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, TrainingResult)
        assert_same_state(other.sae, one.sae.state_dict())
        assert figures(other.history) == figures(one.history)
        assert torch.equal(other.feature_sparsity, one.feature_sparsity)
        assert other.seconds > 0


def test_those_that_scale_write_and_draw_end_as_alone() -> None:
    world = small_world()

    def saes() -> list[Any]:
        scaled = small_config("batchtopk", normalize_activations="expected_average_only_in")
        torch.manual_seed(3)
        return [
            of_class(WritingSAE, 1),
            make_sae(scaled),
            of_class(WritingSAE, 2),
            of_class(TopKTrainingSAE, 4),
        ]

    cfg = config(n_batches_for_norm_estimate=4)
    alone = []
    for index in range(4):
        sae = saes()[index]
        alone.append(train_sae(sae, world, cfg))
    # Each begins with the random numbers that it had when it was made ready.
    trainings = []
    for index in range(4):
        sae = saes()[index]
        trainings.append(TrainingRun(sae, world, cfg))
    for one, other in zip(alone, train_together(trainings), strict=True):
        assert isinstance(other, TrainingResult)
        assert_same_state(other.sae, one.sae.state_dict())


def test_an_error_ends_only_its_own_training() -> None:
    world = small_world()
    alone = train_sae(of_class(TopKTrainingSAE, 1), world, config())
    failed, other = train_together(
        [
            TrainingRun(of_class(FailingSAE, 1), world, config()),
            TrainingRun(of_class(TopKTrainingSAE, 1), world, config()),
        ]
    )
    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(other, TrainingResult)
    assert_same_state(other.sae, alone.sae.state_dict())


def test_after_an_interrupt_all_go_on(tmp_path: Path) -> None:
    world = small_world()
    kinds = (WritingSAE, InterruptedSAE, TopKTrainingSAE)
    InterruptedSAE.armed = False
    alone = [train_sae(of_class(kind, 1), world, config()) for kind in kinds]

    def trainings() -> list[TrainingRun]:
        return [
            TrainingRun(of_class(kind, 1), world, config(), checkpoint_dir=tmp_path / kind.__name__)
            for kind in kinds
        ]

    InterruptedSAE.armed = True
    with pytest.raises(KeyboardInterrupt):
        train_together(trainings())
    InterruptedSAE.armed = False
    resumed = trainings()
    # The first was a step ahead when it happened.
    assert [training.steps for training in resumed] == [8, 7, 7]
    for one, other in zip(alone, train_together(resumed), strict=True):
        assert isinstance(other, TrainingResult)
        assert_same_state(other.sae, one.sae.state_dict())
        assert figures(other.history) == figures(one.history)


def test_of_different_lengths() -> None:
    world = small_world()
    short, long = config(training_samples=3 * BATCH), config()
    alone = [train_sae(of_class(TopKTrainingSAE, 1), world, cfg) for cfg in (short, long)]
    together = train_together(
        [TrainingRun(of_class(TopKTrainingSAE, 1), world, cfg) for cfg in (short, long)]
    )
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, TrainingResult)
        assert_same_state(other.sae, one.sae.state_dict())


@pytest.mark.parametrize("changes", [{"seed": 6}, {"batch_size": 32}])
def test_other_streams_are_refused(changes: dict[str, int]) -> None:
    world = small_world()
    with pytest.raises(ValueError, match="of one model, seed and batch size"):
        train_together(
            [
                TrainingRun(small_sae("topk"), world, config()),
                TrainingRun(small_sae("topk"), world, config(**changes)),
            ]
        )


def test_no_training() -> None:
    assert train_together([]) == []
