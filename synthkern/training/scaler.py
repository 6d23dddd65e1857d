"""One number by which inputs are multiplied, so that their mean norm is that of an SAE's liking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm


@dataclass
class ActivationScaler:
    """Scales hidden activations, and reconstructions back.

    Attributes:
        scaling_factor: None leaves both as they are.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> scaler = synthetic.ActivationScaler()
        >>> scaler.estimate(iter([torch.full((10, 4), 2.0)]), count=1)  # norms of 4, sqrt(D) is 2
        >>> scaler.scaling_factor, scaler.scale(torch.tensor([4.0, 8.0]))
        (0.5, tensor([2., 4.]))
    """

    scaling_factor: float | None = None

    def scale(self, acts: torch.Tensor) -> torch.Tensor:
        """Hidden activations [..., D] as the SAE takes them."""
        return acts if self.scaling_factor is None else acts * self.scaling_factor

    def unscale(self, acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of what :meth:`scale` gave, scaled back."""
        return acts if self.scaling_factor is None else acts / self.scaling_factor

    def __call__(self, acts: torch.Tensor) -> torch.Tensor:
        """As :meth:`scale`."""
        return self.scale(acts)

    @torch.no_grad()
    def estimate(self, batches: Iterator[torch.Tensor], count: int) -> None:
        """Find the factor that makes sqrt(D) of the mean norm of ``count`` batches [B, D].

        Raises:
            RuntimeError: where there are fewer batches.
            ValueError: where the mean norm is 0 or not finite.
        """
        norms, samples, width = 0.0, 0, 0
        for done in tqdm(range(count), desc="estimating the norm", delay=2, leave=False):
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(
                    f"source ended after {done:,} batches, and the norm of the inputs is estimated "
                    f"on n_batches_for_norm_estimate = {count:,}: set that lower, or give more"
                )
            width = batch.shape[-1]
            norms += float(torch.linalg.vector_norm(batch.float(), dim=-1).double().sum())
            samples += len(batch)
        mean = norms / samples
        if not 0 < mean < float("inf"):
            raise ValueError(f"batches must have a mean norm above 0 and finite, got {mean}")
        self.scaling_factor = width**0.5 / mean
