"""A world's views in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from synthkern.model.feature_map import FeatureMap, firing_rates
from synthkern.model.views import build_map, deal_features, threshold_seed
from synthkern.world.config import SyntheticModelConfig


@dataclass(frozen=True)
class ViewsDescription:
    """What a world's further views have.

    Attributes:
        widths: D_v of all views, the world's own first, a map's outputs last.
        shared: number of features that are in all views of features.
        exclusive: of each view of features, how many are in it alone.
        rotated: number of shared features that are rotated.
        cosine: between their vectors in view 0 and in the others; None where vectors are drawn by
            themselves.
        requested: rate that a map's outputs shall have; None without one, or with a threshold.
        rates: [K] rates that the outputs have in the 65,536 samples by which thresholds are found,
            or None.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(hidden_dims=[6], exclusive_portion=0.5)
        >>> cfg = synthetic.SyntheticModelConfig(8, 4, seed=0, views=views)
        >>> print(*synthetic.describe_world(cfg).views.lines())
        2 views of widths 4, 6: 4 features shared, exclusive to each 2, 2
    """

    widths: tuple[int, ...]
    shared: int
    exclusive: tuple[int, ...]
    rotated: int
    cosine: float | None
    requested: float | None
    rates: torch.Tensor | None

    def lines(self) -> list[str]:
        """The lines of a table's foot."""
        count = len(self.exclusive)
        widths = ", ".join(f"{width:,}" for width in self.widths[:count])
        lines = []
        if count > 1:
            own = ", ".join(f"{number:,}" for number in self.exclusive)
            line = f"{count} views of widths {widths}: {self.shared:,} features shared"
            if self.cosine is not None:
                line += f" ({self.rotated:,} rotated, cosine {self.cosine:g})"
            lines.append(f"{line}, exclusive to each {own}")
        if self.rates is not None:
            asked = "" if self.requested is None else f", requested {self.requested:.3g}"
            mean, least, most = (float(x) for x in (self.rates.mean(), *self.rates.aminmax()))
            lines.append(
                f"a map to {len(self.rates):,} outputs in {self.widths[-1]:,} dimensions: "
                f"they fire at {mean:.3g} on average, from {least:.3g} to {most:.3g}{asked}"
            )
        return lines


def describe_views(
    cfg: SyntheticModelConfig, generator: Any, feature_map: FeatureMap | None = None
) -> ViewsDescription | None:
    """The views of a config, or None; a map that is not given is built."""
    recipe = cfg.views
    if recipe is None:
        return None
    present, rotated = deal_features(cfg)
    shared = present.all(dim=0)
    rates = None
    widths = [cfg.hidden_dim, *recipe.hidden_dims]
    if recipe.map is not None:
        widths.append(recipe.map.hidden_dim)
        if feature_map is None:
            feature_map = build_map(cfg, recipe.map, generator, present[0])
        rates = firing_rates(feature_map, generator, threshold_seed(cfg))
    found = recipe.map is not None and recipe.map.threshold is None
    alone = present & ~shared
    return ViewsDescription(
        tuple(widths),
        int(shared.sum()),
        tuple(int(number) for number in alone.sum(dim=1)),
        int(rotated.sum()),
        recipe.cosine,
        recipe.map.firing_probability if recipe.map is not None and found else None,
        rates,
    )
