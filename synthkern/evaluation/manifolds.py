"""How well latents represent features that are circles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthkern.evaluation.calculator import Array
from synthkern.evaluation.circles import (
    BINS,
    Events,
    Neighbours,
    above_half,
    chosen,
    is_tuned,
)
from synthkern.evaluation.metric import Batch, Metric, Subject

#: Manifolds that are looked at.
_MOST = 32

#: Of the largest eigenvalue of the latents' covariance, below which there is nothing to fit with.
_RANK = 1e-9


@dataclass(frozen=True)
class ManifoldPlaneRecovery:
    """How much of the planes of features that are circles latents hold.

    For each manifold, of at most 32 that are spread evenly over all, the 16 latents are looked at
    whose decoder rows lie most in the span of its 2k directions. Figures are means over the
    manifolds, of ``coordinates`` those that are active in some sample.

    Attributes:
        span: share of the span that as many rows hold as it has dimensions. They are taken one
            after the other: the one whose part at right angles to those before, made a unit vector
            q, has the most in the span, ``|U^T q|**2`` with U an orthonormal basis; the share is
            the sum of these over 2k. In [0, 1], 1 where 2k rows span it; no sample has a say in it.
        coordinates: R**2, in [0, 1], of the linear regression of the manifold's 2k entries on the
            16 latents, over the samples in which it is active, of all 2k together: 1 less the
            residual over the variance about the mean.

    Example:
        >>> import synthkern as synthetic
        >>> circles = synthetic.ManifoldConfig(count=2)
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(8, 16, manifolds=circles, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=8))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, 1000, seed=0
        ... )
        >>> round(result.manifold_plane_recovery.span, 3)
        1.0
    """

    span: float
    coordinates: float


@dataclass(frozen=True)
class ManifoldTiling:
    """How latents tile the circles of features that are circles.

    For each circle, of the manifolds and latents that :class:`ManifoldPlaneRecovery` looks at, a
    latent's tuning curve is its mean absolute activation in each of 24 bins of the phase, over the
    samples in which the manifold is active. Its resultant ``sum_b t_b exp(i phi_b) / sum_b t_b``
    has the preferred phase for its angle; a latent is *tuned* where its length is 0.5 or more (that
    of max(0, cos) is 0.79, of a flat curve 0), it fires in 16 of these samples at least, and half
    of the length of its decoder row at least lies in the manifold's span.

    Attributes:
        latents: mean number of tuned latents of a circle, in [0, 16].
        width: mean over all tuned latents of the share of the bins in which the curve is at half of
            its greatest or more; in [1 / 24, 1], 0 where no latent is tuned. max(0, cos) has 1/3.
        coverage: mean over the circles of the share of the bins in which some tuned latent is at
            half of its greatest or more; in [0, 1].

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.ManifoldTiling(latents=4.0, width=1 / 3, coverage=1.0).latents
        4.0
    """

    latents: float
    width: float
    coverage: float


class ManifoldMetric(Metric):
    """Sums of the samples in which manifolds are active; see :class:`ManifoldPlaneRecovery`."""

    fields = ("manifold_plane_recovery", "manifold_tiling")

    def __init__(self, subject: Subject) -> None:
        assert subject.manifolds is not None
        near = Neighbours.find(subject.decoder, subject.vectors, chosen(subject.manifolds, _MOST))
        self._near = near
        (manifolds, width), count = near.members.shape, near.latents.shape[1]
        super().__init__(
            subject,
            samples=np.zeros(manifolds),
            fires=np.zeros((manifolds, count)),
            x=np.zeros((manifolds, count)),
            y=np.zeros((manifolds, width)),
            xx=np.zeros((manifolds, count, count)),
            xy=np.zeros((manifolds, count, width)),
            yy=np.zeros((manifolds, width)),
            in_bin=np.zeros((manifolds, width // 2, BINS)),
            curve=np.zeros((manifolds, width // 2, count, BINS)),
        )

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where there are manifolds, and latents."""
        return subject.manifolds is not None and subject.num_latents > 0

    def add_batch(self, batch: Batch) -> None:
        """Add samples."""
        signed = batch.features if batch.signed is None else batch.signed
        events = Events.find(signed, batch.latents, self._near)
        groups = len(batch.groups.sizes)
        terms = {name: np.zeros((groups, *sums.shape[1:])) for name, sums in self._sums.items()}
        bins = events.bins()
        group = batch.groups.of_rows.numpy()[events.rows]
        order = np.lexsort((events.manifold, group))
        places = np.stack([group, events.manifold])[:, order]
        starts = np.flatnonzero(np.diff(places, axis=1, prepend=-1).any(axis=0))
        for which in np.split(order, starts[1:]) if len(order) else ():
            at = group[which[0]], events.manifold[which[0]]
            x, y = events.latents[which], events.coordinates[which]
            terms["samples"][at] = len(which)
            terms["fires"][at] = np.count_nonzero(x, axis=0)
            terms["x"][at], terms["y"][at] = x.sum(axis=0), y.sum(axis=0)
            terms["xx"][at], terms["xy"][at] = x.T @ x, x.T @ y
            terms["yy"][at] = np.square(y).sum(axis=0)
            for circle, of_circle in enumerate(bins[which].T):
                hot = of_circle[:, None] == np.arange(BINS)
                terms["in_bin"][at][circle] = hot.sum(axis=0)
                terms["curve"][at][circle] = np.abs(x).T @ hot
        self._add(batch.groups, **terms)

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """The figures, where some manifold was active."""
        sums = self.left_out()
        span = float(self._near.span().mean())
        if not sums["samples"][-1].any():
            return {"manifold_plane_recovery": {"span": span, "coordinates": np.nan}}
        return {
            "manifold_plane_recovery": {"span": span, "coordinates": _explained(sums)},
            "manifold_tiling": _tiling(sums, self._near.share),
        }


def _explained(sums: Mapping[str, Array]) -> Array:
    """R**2 [...], means over the manifolds [P] that were active."""
    samples = sums["samples"]
    n = np.maximum(1, samples)[..., None]
    x, y = sums["x"] / n, sums["y"] / n
    of_x = sums["xx"] / n[..., None] - x[..., :, None] * x[..., None, :]
    both = sums["xy"] / n[..., None] - x[..., :, None] * y[..., None, :]
    variance = (sums["yy"] / n - np.square(y)).sum(axis=-1)
    inverse = np.linalg.pinv(of_x, rcond=_RANK, hermitian=True)
    explained = np.einsum("...kd,...kl,...ld->...", both, inverse, both)
    share = np.where(variance > 0, explained / np.where(variance > 0, variance, 1), 0).clip(0, 1)
    known = samples > 0
    means: Array = (share * known).sum(axis=-1) / np.maximum(1, known.sum(axis=-1))
    return means


def _tiling(sums: Mapping[str, Array], share: Array) -> dict[str, Array]:
    curves = sums["curve"] / np.maximum(1, sums["in_bin"])[..., None, :]
    tuned = is_tuned(curves, sums["fires"][..., None, :], share[:, None, :])
    half = above_half(curves) & tuned[..., None]
    circles = tuned.shape[-3] * tuned.shape[-2]
    number = tuned.sum(axis=(-3, -2, -1))
    return {
        "latents": number / circles,
        "width": half.mean(axis=-1).sum(axis=(-3, -2, -1)) / np.maximum(1, number),
        "coverage": half.any(axis=-2).mean(axis=-1).mean(axis=(-2, -1)),
    }
