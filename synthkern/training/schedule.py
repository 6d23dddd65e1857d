"""Learning rates and coefficients as functions of the step, with nothing to save or restore."""

from __future__ import annotations

import math

from synthkern.training.config import TrainingConfig


def learning_rate(cfg: TrainingConfig, step: int, total: int | None = None) -> float:
    """The learning rate of a step, the first of which is 0, of ``total`` (None: the config's).

    Warm-up grows linearly from lr / lr_warm_up_steps to lr; the last ``lr_decay_steps`` fall
    linearly from where the schedule then is towards 0, whether the warm-up is over or not, and
    from the first step where they are more than there are.
    """
    lr, total = cfg.lr, cfg.training_steps if total is None else total
    decayed = step - max(0, total - cfg.lr_decay_steps)
    if cfg.lr_decay_steps and decayed >= 0:
        return _end(cfg) * max(0.0, 1 - decayed / cfg.lr_decay_steps)
    if step < cfg.lr_warm_up_steps:
        return lr * (step + 1) / cfg.lr_warm_up_steps
    steps = total - cfg.lr_warm_up_steps - cfg.lr_decay_steps
    at = step - cfg.lr_warm_up_steps
    if cfg.lr_scheduler_name == "constant":
        return lr
    if cfg.lr_scheduler_name == "cosineannealingwarmrestarts":
        steps = max(1, steps // cfg.n_restart_cycles)
        at %= steps
    share = min(1.0, at / max(1, steps))
    if cfg.lr_scheduler_name != "linear":
        share = (1 - math.cos(math.pi * share)) / 2
    return lr + (_end(cfg) - lr) * share


def warmed_up(value: float, warm_up_steps: int, step: int) -> float:
    """A coefficient that grows linearly from 0 at step 0 to ``value`` at ``warm_up_steps``."""
    return value * min(1.0, step / warm_up_steps) if warm_up_steps else value


def _end(cfg: TrainingConfig) -> float:
    assert cfg.lr_end is not None
    return cfg.lr if cfg.lr_scheduler_name == "constant" else cfg.lr_end
