"""What users of SAELens look at in a trainer, under its names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from synthkern.training.config import TrainingConfig
from synthkern.training.firing import FiringRecord, log_sparsity


class TrainerNames:
    """The names, of a trainer that keeps the record of firings.

    Attributes:
        n_training_steps: steps done. In snapshots those before the step that was just done, whose
            samples are counted already: SAELens calls them before it counts the step.
        data_provider: batches of hidden activations. Where the training is on an iterator, it is
            that, and a batch that is taken there is not trained on.
    """

    data_provider: Any = None

    cfg: TrainingConfig
    firing: FiringRecord
    steps_done: int
    _uncounted: int = 0
    _coefficients: dict[str, tuple[float, int]]

    @property
    def next_rate(self) -> float:
        """The learning rate of the next step."""
        raise NotImplementedError

    def get_coefficients(self) -> dict[str, float]:
        """What the SAE's losses are multiplied by at the next step, by name."""
        raise NotImplementedError

    @property
    def coefficient_schedulers(self) -> dict[str, CoefficientSchedule]:
        """Where the warm-up of each coefficient stands."""
        return {
            name: CoefficientSchedule(*self._coefficients[name], self.steps_done, value)
            for name, value in self.get_coefficients().items()
        }

    @property
    def n_training_steps(self) -> int:
        """See the class."""
        return self.steps_done - self._uncounted

    @contextmanager
    def before_counting(self) -> Iterator[None]:
        """Within the block the last step is not in ``n_training_steps``."""
        self._uncounted = min(1, self.steps_done)
        try:
            yield
        finally:
            self._uncounted = 0

    @property
    def dead_neurons(self) -> torch.Tensor:
        """Latents [M] that have not fired within the window."""
        return self.firing.dead(self.cfg.dead_feature_window)

    @property
    def feature_sparsity(self) -> torch.Tensor:
        """Share of the current window's samples in which each latent fired, [M]."""
        return self.firing.rates

    @property
    def log_feature_sparsity(self) -> torch.Tensor:
        """Logarithm to base 10 of the share, 1e-10 added, [M] on the CPU."""
        return log_sparsity(self.feature_sparsity)

    def window_figures(self) -> dict[str, float]:
        """What the training curves show of a window, when it is full."""
        rates = self.feature_sparsity
        return {
            "mean_log10_feature_sparsity": float(self.log_feature_sparsity.mean()),
            "below_1e-5": float((rates < 1e-5).sum()),
            "below_1e-6": float((rates < 1e-6).sum()),
        }

    @property
    def act_freq_scores(self) -> torch.Tensor:
        """Firings of each latent in the current window, float32 [M]."""
        return self.firing.counts.float()

    @property
    def n_frac_active_samples(self) -> int:
        """Samples of the current window."""
        return self.firing.samples

    @property
    def n_forward_passes_since_fired(self) -> torch.Tensor:
        """Steps since each latent fired, float32 [M]."""
        return self.firing.steps_since_fired.float()

    @property
    def lr_scheduler(self) -> RateSchedule:
        """The learning rate as PyTorch's schedulers tell it."""
        return RateSchedule(self.steps_done, self.next_rate)


@dataclass
class CoefficientSchedule:
    """Where the linear warm-up of a coefficient stands.

    Attributes:
        final_value: after it.
        warm_up_steps: of it.
        current_step: steps done.
        current_value: at the next step.
    """

    final_value: float
    warm_up_steps: int
    current_step: int
    current_value: float


class RateSchedule:
    """Where a schedule of the learning rate stands; it moves with the trainer.

    Attributes:
        last_epoch: steps done.
    """

    def __init__(self, last_epoch: int, rate: float) -> None:
        self.last_epoch = last_epoch
        self._rate = rate

    def get_last_lr(self) -> list[float]:
        """The rate of the next step, alone in a list."""
        return [self._rate]

    def state_dict(self) -> dict[str, Any]:
        """The steps done and the rate."""
        return {"last_epoch": self.last_epoch, "_last_lr": self.get_last_lr()}
