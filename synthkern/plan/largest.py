"""The largest values that a world's features can have, and whether a dtype holds them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synthkern.plan.forest import Forest
from synthkern.plan.magnitudes import LARGEST_NORMAL, Magnitudes
from synthkern.plan.manifolds import Manifolds

#: What is computed with, whatever dtype the results are rounded to.
_LIMIT = torch.finfo(torch.float32).max


def largest_values(
    means: torch.Tensor,
    stds: torch.Tensor,
    forests: Sequence[Forest] = (),
    dtype: torch.dtype = torch.float32,
    manifolds: Manifolds | None = None,
    magnitudes: Magnitudes | None = None,
) -> torch.Tensor:
    """What no value of a feature exceeds, float64 [N]; those of a manifold have its leader's bound,
    which holds absolute values there.

    A scaled value is ``value * (parent value / parent mean)``, so that the largest values of a
    feature and of all that scale it, each over its mean, multiply.

    Args:
        means: mean magnitudes [N], on the CPU as all of this.
        stds: their standard deviations [N].
        forests: applied in order.
        dtype: of the values.
        manifolds: or None.
        magnitudes: their distribution; None for normals.

    Raises:
        ValueError: where a mean that divides is not > 0, or a value may not be finite.
    """
    limit = min(torch.finfo(dtype).max, _LIMIT)
    if magnitudes is None:
        what = "mean_firing_magnitudes + 6.34 * std_firing_magnitudes"
        largest = means.double() + LARGEST_NORMAL * stds.double()
    else:
        what = (
            f"the largest {magnitudes.name} magnitude of mean_firing_magnitudes and "
            "std_firing_magnitudes"
        )
        largest = magnitudes.ends()[1]
    bad = (largest > limit).nonzero()
    if bad.numel():
        first = int(bad[0])
        raise ValueError(
            f"{what} must be finite in {dtype}, "
            f"got {float(means[first])!r} and {float(stds[first])!r} at [{first}]"
        )
    for forest in forests:
        if forest.scales:
            check_scaling_means(forest, means)
            _scale(forest, means, largest, dtype, limit)
    return largest if manifolds is None else largest[manifolds.leader_of().cpu()]


def _scale(
    forest: Forest, means: torch.Tensor, largest: torch.Tensor, dtype: torch.dtype, limit: float
) -> None:
    """Scale the largest values [N] in place as a forest scales values."""
    features = forest.feature.long()
    for level in forest.levels()[1:]:
        scaled = forest.scaled[level].bool()
        nodes, parents = features[level][scaled], features[forest.parent[level][scaled].long()]
        ratio = largest[parents] / means[parents]
        largest[nodes] *= ratio
        bad = ((largest[nodes] > limit) | (ratio > _LIMIT)).nonzero()
        if bad.numel():
            node, parent = int(nodes[bad[0]]), int(parents[bad[0]])
            raise ValueError(
                f"feature {node} must stay finite in {dtype} where feature {parent} scales it, "
                f"whose values reach {float(largest[parent]):.3g} and whose mean_firing_magnitudes "
                f"is {float(means[parent])!r}"
            )


def check_scaling_means(forest: Forest, means: torch.Tensor) -> None:
    """Raise where a feature whose mean magnitude divides its children has none above 0."""
    features = forest.feature[forest.parent[forest.scaled.bool()].long()].long()
    bad = features[means[features] <= 0]
    if bad.numel():
        first = int(bad.min())
        raise ValueError(
            "mean_firing_magnitudes must be > 0 where a parent scales its children, "
            f"got {float(means[first])!r} at [{first}]"
        )
