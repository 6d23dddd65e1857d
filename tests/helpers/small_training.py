"""A small world and small SAEs of every architecture, for tests of training."""

from __future__ import annotations

from typing import Any

import torch

import synthkern as synthetic
from synthkern.sae import (
    AbsTopKTrainingSAEConfig,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAEConfig,
    MatchingPursuitTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAEConfig,
    TopKTrainingSAEConfig,
    TrainingSAE,
    TrainingSAEConfig,
    make_sae,
)

D, M, BATCH = 12, 20, 64

ARCHITECTURES = (
    "standard",
    "topk",
    "abstopk",
    "batchtopk",
    "matryoshka_batchtopk",
    "jumprelu",
    "gated",
    "matching_pursuit",
)


def small_world() -> synthetic.SyntheticModel:
    cfg = synthetic.SyntheticModelConfig(
        num_features=24,
        hidden_dim=D,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.1),
        seed=3,
    )
    return synthetic.SyntheticModel(cfg)


def small_config(architecture: str, **changes: Any) -> TrainingSAEConfig:
    made: dict[str, Any] = {
        "standard": lambda **c: StandardTrainingSAEConfig(D, M, **{"l1_coefficient": 0.1, **c}),
        "topk": lambda **c: TopKTrainingSAEConfig(D, M, k=3, **c),
        "abstopk": lambda **c: AbsTopKTrainingSAEConfig(D, M, k=3, **c),
        "batchtopk": lambda **c: BatchTopKTrainingSAEConfig(D, M, k=2.5, **c),
        "matryoshka_batchtopk": lambda **c: MatryoshkaBatchTopKTrainingSAEConfig(
            D, M, k=3, matryoshka_widths=[5, M], **c
        ),
        "jumprelu": lambda **c: JumpReLUTrainingSAEConfig(
            D, M, l0_coefficient=0.1, l0_warm_up_steps=4, pre_act_loss_coefficient=1e-3, **c
        ),
        "gated": lambda **c: GatedTrainingSAEConfig(D, M, l1_coefficient=0.1, **c),
        "matching_pursuit": lambda **c: MatchingPursuitTrainingSAEConfig(
            D, M, max_iterations=3, **c
        ),
    }
    cfg: TrainingSAEConfig = made[architecture](**changes)
    return cfg


def small_sae(architecture: str, **changes: Any) -> TrainingSAE:
    torch.manual_seed(1)
    return make_sae(small_config(architecture, **changes))


def eventful_training(steps: int, **changes: Any) -> synthetic.TrainingConfig:
    """Settings of which each has an effect within few steps."""
    values: dict[str, Any] = {
        "training_samples": steps * BATCH,
        "batch_size": BATCH,
        "seed": 5,
        "lr": 1e-2,
        "lr_warm_up_steps": 7,
        "lr_decay_steps": 20,
        "max_grad_norm": 0.5,
        "dead_feature_window": 8,
        "feature_sampling_window": 11,
        "log_every": 3,
    }
    return synthetic.TrainingConfig(**{**values, **changes})


def figures(history: synthetic.TrainingHistory) -> list[dict[str, float]]:
    """The rows of the curves, without how fast it went."""
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in history.rows]


def state(sae: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in sae.state_dict().items()}


def assert_same_state(sae: Any, expected: dict[str, torch.Tensor]) -> None:
    got = sae.state_dict()
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
