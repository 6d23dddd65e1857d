"""Whether the latents' co-activation gives the true tree back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HierarchyRecovery:
    """Edges from parent to child that latents' co-activation tells, beside the true ones."""

    precision: float
    recall: float
