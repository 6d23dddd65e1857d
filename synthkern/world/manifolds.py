"""Features that are circles, or products of circles, rather than directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from synthkern._checks import as_float, as_int, plain_fields
from synthkern.world.registry import PlainConfig


@dataclass
class ManifoldConfig(PlainConfig):
    """Features that are circles, or products of circles.

    A manifold of k circles is 2k successive features. The first, its *leader*, fires as any feature
    does, with its probability, its place in the trees, and a magnitude m; then the 2k features have
    the entries m cos(phi), m sin(phi) of a phase for each circle, over sqrt(k): a point of a circle
    (or torus) of radius m in 2k orthonormal directions of the dictionary. The others have no
    probability nor place in a tree of their own. Entries may be negative: a manifold is *active*
    where its entries are not zero. What gates, scales and modifies sees m; so a
    :func:`hierarchy_modifier` that is called on given activations wants magnitudes too.

    The phase is uniform, or follows the wrapped Cauchy distribution about 0, of density
    ``(1 - r**2) / (2 pi (1 + r**2 - 2 r cos(phi)))`` and E[cos(n phi)] = r**n.

    Attributes:
        count: how many, spread evenly over the features outside of trees; or None where ``leaders``
            are given.
        leaders: which features lead; they may stand in trees, the others of a manifold may not.
        dimension: k, circles of a manifold.
        concentration: r in [0, 1), 0 for uniform phases.

    Example:
        >>> import synthkern as synthetic
        >>> circles = synthetic.ManifoldConfig(leaders=[1])
        >>> generator = synthetic.ActivationGenerator(4, 1.0, manifolds=circles)
        >>> generator.sample(3, seed=0)[:, 1:3].norm(dim=1).round(decimals=4)
        tensor([1., 1., 1.])
    """

    _called = "manifolds"

    count: int | None = None
    leaders: Sequence[int] | None = None
    dimension: int = 1
    concentration: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.leaders, torch.Tensor) or hasattr(self.leaders, "tolist"):
            self.leaders = self.leaders.tolist()  # type: ignore[union-attr]
        plain_fields(self)
        if (self.count is None) == (self.leaders is None):
            raise ValueError(
                "manifolds must have one of count and leaders, "
                f"got {self.count!r} and {self.leaders!r}"
            )
        if self.count is not None:
            as_int("count", self.count, low=1)
        if self.leaders is not None:
            if not isinstance(self.leaders, (list, tuple)) or not self.leaders:
                raise ValueError(f"leaders must be features, one at least, got {self.leaders!r}")
            self.leaders = sorted(
                as_int(f"leaders[{i}]", j, low=0) for i, j in enumerate(self.leaders)
            )
        as_int("dimension", self.dimension, low=1)
        self.concentration = as_float("concentration", self.concentration, low=0)
        # Below 1 as a float32 too, in which 1 - r must not be 0.
        if self.concentration > 1 - 2.0**-10:
            raise ValueError(
                f"concentration must be at most 1 - 2**-10, got {self.concentration!r}"
            )
