"""Latents on manifolds: the coordinates where one is active, and how latents follow its phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.places import Places
from synthkern.evaluation.ranges import Ints
from synthkern.evaluation.splitting import STANDS_FOR
from synthkern.plan.manifolds import Manifolds
from synthkern.sparse import SparseActivations

Floats = npt.NDArray[np.float64]

#: Latents that are looked at for each manifold.
NEAREST = 16

#: Bins of a circle.
BINS = 24

#: Resultant length of a tuning curve from which on a latent has a preferred phase.
_SELECTIVE = 0.5

#: Samples of the manifold in which a latent must fire for that.
_LEAST_FIRES = 16


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The latents whose decoder rows lie most in the span of each of P manifolds' directions.

    A row w is the nearer the greater ``|U^T w| / |w|`` is, with U an orthonormal basis of the span;
    of equal ones the first is.

    Attributes:
        members: [P, 2k] their features.
        latents: [P, K], from the nearest on.
        share: [P, K] float64, the ``|U^T w| / |w|``.
        rows: [P, K, D] float64, their decoder rows over their norms.
        bases: [P, D, 2k] float64, orthonormal.
    """

    members: Ints
    latents: Ints
    share: Floats
    rows: Floats
    bases: Floats

    @classmethod
    def find(
        cls,
        decoder: torch.Tensor,
        vectors: torch.Tensor,
        members: torch.Tensor,
        count: int = NEAREST,
    ) -> Neighbours:
        """The ``count`` nearest of the latents of a decoder [M, D] to manifolds of ``members``
        [P, 2k] among features with vectors [N, D].
        """
        directions = vectors.detach()[members.to(vectors.device)].double().cpu().numpy()
        bases = np.linalg.qr(directions.transpose(0, 2, 1)).Q
        rows = decoder.detach().double().cpu().numpy()
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms > 0, norms, 1)
        share = np.stack([np.linalg.norm(rows @ basis, axis=1) for basis in bases])
        latents = np.argsort(-share, axis=1, kind="stable")[:, :count]
        share = np.take_along_axis(share, latents, axis=1)
        return cls(members.cpu().numpy(), latents, share, rows[latents], bases)

    def span(self) -> Floats:
        """[P] how much of each manifold's span 2k rows hold, see :class:`ManifoldPlaneRecovery`."""
        return np.array([_greedy_span(*pair) for pair in zip(self.rows, self.bases, strict=True)])


def _greedy_span(rows: Floats, basis: Floats) -> float:
    """The share of a span that rows hold which are taken one after the other."""
    left, held, size = rows.copy(), 0.0, basis.shape[1]
    for _ in range(min(size, len(rows))):
        lengths = np.linalg.norm(left, axis=1)
        is_new = lengths > 1e-6
        gains = np.square(left @ basis).sum(axis=1) / np.where(is_new, lengths, 1) ** 2
        best = int(np.where(is_new, gains, 0).argmax())
        if not is_new[best]:
            break
        held += gains[best]
        step = left[best] / lengths[best]
        left -= np.outer(left @ step, step)
    return min(held / size, 1.0)


@dataclass(frozen=True, eq=False)
class Events:
    """Samples in which a manifold is active.

    Attributes:
        rows: [E] the samples.
        manifold: [E] which of the P.
        coordinates: [E, 2k] the entries of its features.
        latents: [E, K] its neighbours' activations; 0 where they are not finite.
    """

    rows: Ints
    manifold: Ints
    coordinates: Floats
    latents: Floats

    @classmethod
    def find(
        cls, signed: SparseActivations, latents: SparseActivations, near: Neighbours
    ) -> Events:
        """Those of features [B, N], entries that are not zero, and latents [B, M]."""
        number, width = near.members.shape
        place = np.full(signed.num_features, -1, np.int64)
        place[near.members.flatten()] = np.arange(number * width)
        active = Places(signed, place >= 0)
        at = place[active.columns]
        keys, event = np.unique(active.rows * number + at // width, return_inverse=True)
        rows, manifold = keys // number, keys % number
        coordinates = np.zeros((len(keys), width))
        coordinates[event, at % width] = active.values
        wanted = np.zeros(latents.num_features, np.bool_)
        wanted[near.latents.flatten()] = True
        firing = Places(latents, wanted)
        of_events = near.latents[manifold]
        found = firing.find(np.repeat(rows, of_events.shape[1]), of_events.flatten())
        values = np.append(firing.values, 0.0)[found].reshape(of_events.shape)
        return cls(rows, manifold, coordinates, np.where(np.isfinite(values), values, 0))

    def bins(self) -> Ints:
        """[E, k] the bin of each circle's phase; bin b is about ``2 pi (b + 1/2) / BINS``."""
        phase = np.arctan2(self.coordinates[:, 1::2], self.coordinates[:, ::2])
        return np.floor(phase / (2 * np.pi) * BINS).astype(np.int64) % BINS


def phases() -> Floats:
    """[BINS] the middles of the bins, in radians."""
    return 2 * np.pi * (np.arange(BINS) + 0.5) / BINS


def resultants(curves: Floats) -> npt.NDArray[np.complex128]:
    """The resultants [...] of tuning curves [..., BINS]: the angle is the preferred phase, the
    length, in [0, 1], how selective a curve is; 0 where it is zero throughout.
    """
    total = curves.sum(axis=-1)
    found: npt.NDArray[np.complex128] = (
        curves @ np.exp(1j * phases()) / np.where(total > 0, total, 1)
    )
    return found


def above_half(curves: Floats) -> npt.NDArray[np.bool_]:
    """Where tuning curves [..., BINS] are at half of their greatest or more."""
    most = curves.max(axis=-1, keepdims=True)
    found: npt.NDArray[np.bool_] = (curves >= most / 2) & (most > 0)
    return found


def is_tuned(curves: Floats, fires: Floats, share: Floats) -> npt.NDArray[np.bool_]:
    """Whether latents with curves [..., BINS] that fired so often [...], and of whose rows' lengths
    such a share [...] is in the plane, have a preferred phase.
    """
    selective = np.abs(resultants(curves)) >= _SELECTIVE
    found: npt.NDArray[np.bool_] = selective & (fires >= _LEAST_FIRES) & (share >= STANDS_FOR)
    return found


def chosen(manifolds: Manifolds, most: int) -> torch.Tensor:
    """The features [P, 2k] of at most so many manifolds, spread evenly over all."""
    number = len(manifolds.leader)
    nth = torch.arange(min(most, number)) * number // min(most, number)
    return manifolds.members()[nth]
