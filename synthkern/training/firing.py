"""How often latents fire, and for how long they have not."""

from __future__ import annotations

from typing import Any

import torch

from synthkern.sparse import SparseActivations


class FiringRecord:
    """Firings of M latents over the steps of a training.

    Attributes:
        steps_since_fired: [M] int64.
        counts: [M] int64, firings in the current window.
        samples: of the current window.
    """

    def __init__(self, d_sae: int, device: torch.device) -> None:
        self.steps_since_fired = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.counts = torch.zeros_like(self.steps_since_fired)
        self.samples = 0

    def add(self, fired: torch.Tensor) -> None:
        """Take in a step's number of firings [M]; who calls this counts ``samples``."""
        self.steps_since_fired += 1
        self.steps_since_fired.masked_fill_(fired > 0, 0)
        self.counts += fired

    def reset_window(self) -> None:
        """Begin to count anew."""
        self.counts.zero_()
        self.samples = 0

    @property
    def rates(self) -> torch.Tensor:
        """Share of the window's samples in which each latent fired, float32 [M]."""
        return self.counts.float() / max(self.samples, 1)

    def dead(self, window: int) -> torch.Tensor:
        """Latents [M] that have not fired for more than ``window`` steps."""
        return self.steps_since_fired > window

    def max_dead_within(self, window: int, steps: int) -> int:
        """How many latents may be dead in one of the next ``steps`` steps; waits for a GPU."""
        return int(self.dead(window - (steps - 1)).sum())


@torch.no_grad()
def firings(step_output: Any, d_sae: int) -> torch.Tensor:
    """How often each latent fired in a step's output, int64 [M]."""
    latents = getattr(step_output, "latents", None)
    if latents is None:
        latents = step_output.feature_acts
    if isinstance(latents, SparseActivations):
        return _at(latents.indices, latents.values, d_sae)
    if latents.is_sparse:
        latents = latents.coalesce()
        return _at(latents.indices()[-1], latents.values(), d_sae)
    return latents.reshape(-1, d_sae).count_nonzero(dim=0)


def _at(indices: torch.Tensor, values: torch.Tensor, d_sae: int) -> torch.Tensor:
    none = torch.zeros(d_sae, dtype=torch.int64, device=indices.device)
    return none.index_add_(0, indices, (values != 0).long())


def log_sparsity(rates: torch.Tensor) -> torch.Tensor:
    """Logarithm to base 10 of firing rates [M], 1e-10 added, on the CPU."""
    return (rates + 1e-10).log10().cpu()
