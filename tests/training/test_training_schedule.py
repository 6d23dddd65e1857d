"""Learning rates against PyTorch's own schedulers, which the field's trainer chains."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from synthkern.training import TrainingConfig
from synthkern.training.schedule import learning_rate, warmed_up

LR, STEPS = 0.3, 40


def rates(cfg: TrainingConfig) -> list[float]:
    return [learning_rate(cfg, step) for step in range(STEPS)]


def settings(name: str, warm_up: int, decay: int, cycles: int = 1) -> TrainingConfig:
    return TrainingConfig(
        training_samples=STEPS * 8,
        batch_size=8,
        lr=LR,
        lr_end=0.06,
        lr_scheduler_name=name,
        lr_warm_up_steps=warm_up,
        lr_decay_steps=decay,
        n_restart_cycles=cycles,
    )


def chained(name: str, warm_up: int, decay: int, cycles: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    main = STEPS - warm_up - decay
    end = LR if name == "constant" else 0.06
    middle: lr_scheduler.LRScheduler
    if name == "constant":
        middle = lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    elif name == "cosineannealing":
        middle = lr_scheduler.CosineAnnealingLR(optimizer, T_max=main, eta_min=end)
    else:
        middle = lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, T_0=main // cycles, eta_min=end
        )
    parts, milestones = [middle], []
    if warm_up:
        first = lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, total_iters=warm_up - 1)
        parts, milestones = [first, middle], [warm_up]
    if decay:
        parts.append(lr_scheduler.LinearLR(optimizer, end / LR, 0.0, total_iters=decay))
        milestones.append(STEPS - decay)
    chain = lr_scheduler.SequentialLR(optimizer, parts, milestones)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        chain.step()
    return found


@pytest.mark.parametrize("name", ["constant", "cosineannealing", "cosineannealingwarmrestarts"])
@pytest.mark.parametrize(("warm_up", "decay"), [(0, 0), (5, 0), (0, 7), (5, 7)])
def test_as_pytorchs_schedulers(name: str, warm_up: int, decay: int) -> None:
    cycles = 3 if name.endswith("restarts") else 1
    got = rates(settings(name, warm_up, decay, cycles))
    assert got == pytest.approx(chained(name, warm_up, decay, cycles), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosineannealing"])
@pytest.mark.parametrize(
    ("warm_up", "decay"), [(41, 0), (60, 0), (0, 40), (0, 60), (30, 25), (60, 20), (60, 60)]
)
def test_longer_than_the_training_as_pytorchs_schedulers(
    name: str, warm_up: int, decay: int
) -> None:
    got = rates(settings(name, warm_up, decay))
    assert got == pytest.approx(chained(name, warm_up, decay, 1), rel=1e-9, abs=1e-12)


def test_linear_by_hand() -> None:
    got = rates(settings("linear", 4, 6))
    assert got[:4] == pytest.approx([LR / 4, LR / 2, LR * 3 / 4, LR])
    # 30 steps from 0.3 to 0.06, then 6 from there to 0.
    assert got[4] == LR
    assert got[19] == pytest.approx((LR + 0.06) / 2)
    assert got[34:] == pytest.approx([0.06 * (1 - k / 6) for k in range(6)])


def test_an_end_of_none_is_a_tenth() -> None:
    assert TrainingConfig(lr=0.5).lr_end == 0.05


def test_coefficients_grow_from_zero() -> None:
    assert [warmed_up(2.0, 4, step) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert warmed_up(2.0, 0, 0) == 2.0
