"""How well probes find the true features in the latents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProbeF1:
    """F1 of probes.

    Attributes:
        single: of the best single latent.
        best: of the best k latents, k being chosen.
    """

    single: float
    best: float
