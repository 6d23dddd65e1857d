"""How often a child's latent stands in for its parent's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AbsorptionLevel:
    """Absorption of the parents of one level of the tree."""

    full: float
    partial: float
    spread: float


@dataclass(frozen=True)
class Absorption:
    """Absorption, over all pairs of parent and child.

    Attributes:
        by_level: the same of the parents at each depth of the tree, roots first.
    """

    full: float
    partial: float
    spread: float
    by_level: list[AbsorptionLevel]
