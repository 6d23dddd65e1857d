"""Whether latents mix in features that are correlated with their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from synthkern import engine
from synthkern.evaluation.calculator import Array, count
from synthkern.evaluation.metric import Batch, Metric, Subject
from synthkern.sparse import SparseActivations

#: Features besides its own that are looked for in a latent.
_OTHERS = 8

#: |cosine| below which features have no part in a row: float32 rounds to 1e-7.
_RIGHT_ANGLE = 1e-5


class HedgingMetric(Metric):
    """How much of correlated features' directions latents mix in.

    An SAE with fewer latents than there are features lowers its reconstruction error by mixing
    correlated features into a latent: "Feature Hedging: Correlated Features Break Narrow Sparse
    Autoencoders" (arXiv 2505.11756). There, the mixing is what changes in a decoder row when
    latents are added; with the true features known it can be seen at once.

    For each feature j that is some latent's best match, take the latent that it has the greatest
    |cosine| with among these: u is its unit decoder row, with the sign for which u·f_j is at least
    0. Of the 8 features k other than j that u has the greatest |cosine|s with:

    - ``m_k = u·f_k - (u·f_j)(f_j·f_k)`` is what u has of feature k besides feature j;
    - ``c_k = P(j and k fire) - P(j fires) P(k fires)`` is how the two fire together.

    The latent's hedging is ``sum_k m_k c_k / sqrt(sum_k c_k**2)``, the length of what it mixes in
    along the direction that the correlations give; 0 where all c_k are. The figure is the mean over
    these latents. It is 0 for a dictionary that is true, and around 0 for one that mixes features
    in by chance, as their signs cancel out; it is positive where latents mix features in as these
    are correlated, ``a / sqrt(1 + a**2)`` for f_1 + a f_2 of two orthogonal features that are, and
    negative where against it. It is in [-1, 1] where features are orthogonal, and hardly leaves it
    elsewhere.
    """

    fields = ("hedging",)
    nearest = _OTHERS + 1

    def __init__(self, subject: Subject) -> None:
        matching = subject.matching
        order = np.lexsort((-matching.nearest_cosine[:, 0], matching.best))
        self._features, first = np.unique(matching.best[order], return_index=True)
        latents = order[first]
        near = matching.nearest[latents]
        # Own features last, which of equals may be any, or none.
        own = near == self._features[:, None]
        places = own.argsort(axis=1, kind="stable")[:, : subject.num_features - 1][:, :_OTHERS]
        self._others = np.take_along_axis(near, places, axis=1)
        cosine = np.take_along_axis(matching.nearest_cosine[latents], places, axis=1)
        #: Of those at right angles rounding alone says which are the nearest: they have no say.
        self._has_say = cosine >= _RIGHT_ANGLE
        if subject.manifolds is not None:
            # A direction within its own circle is no other feature's.
            leader = subject.manifolds.leader_of().numpy()
            self._has_say &= leader[self._others] != leader[self._features][:, None]
        self._mixed = _mixed(subject, latents, self._features, self._others)
        self._place = np.full(subject.num_features, -1, np.int32)
        self._place[self._features] = np.arange(len(self._features))
        shape = self._others.shape
        super().__init__(
            subject,
            both=np.zeros(shape, np.int64),
            others=np.zeros(shape, np.int64),
            fires=np.zeros(shape[0], np.int64),
            samples=count(),
        )

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where a latent can have features besides its own."""
        return subject.num_latents > 0 and subject.num_features > 1

    def add_batch(self, batch: Batch) -> None:
        """Count how often features fire together."""
        groups, features = batch.groups, batch.features
        shape = (len(groups.sizes), *self._others.shape)
        columns = np.arange(shape[0])[:, None] * self.subject.num_features
        others = torch.from_numpy((columns + self._others.flatten()).flatten())
        fires, both, of_others = engine.backend_for(features.device).count_fires(
            groups.apart(self._pairs(features)),
            groups.apart(features),
            others.to(features.device),
        )
        self._add(
            groups,
            both=both.view(shape).numpy(),
            others=of_others.view(shape).numpy(),
            fires=fires.view(shape)[:, :, 0].numpy(),
            samples=groups.sizes,
        )

    def _pairs(self, features: SparseActivations) -> SparseActivations:
        """Which of the features [U] fire: [B, U K], once for each of their K others."""
        others = self._others.shape[1]
        place = torch.from_numpy(self._place).to(features.device)[features.indices]
        known = place >= 0
        before = torch.nn.functional.pad(known.cumsum(0), (1, 0))[features.offsets]
        number = torch.arange(others, dtype=torch.int32, device=features.device)
        return SparseActivations(
            before * others,
            (place[known][:, None] * others + number).flatten(),
            features.values[known].repeat_interleave(others),
            self._others.size,
            validate=False,
        )

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See above."""
        sums = self.left_out()
        samples = np.maximum(1, sums["samples"])[:, None, None]
        expected = sums["fires"][:, :, None] / samples * (sums["others"] / samples)
        together = np.where(self._has_say, sums["both"] / samples - expected, 0)
        lengths = np.linalg.norm(together, axis=-1)
        mixed = (self._mixed * together).sum(axis=-1) / np.where(lengths > 0, lengths, 1)
        return {"hedging": mixed.mean(axis=-1)}


def _mixed(subject: Subject, latents: Array, features: Array, others: Array) -> Array:
    """What latents [U] have of others [U, K] besides their own features [U]: float64 [U, K]."""
    normalize = torch.nn.functional.normalize

    def rows(matrix: torch.Tensor, places: Array) -> torch.Tensor:
        chosen = matrix[torch.from_numpy(places).to(matrix.device)]
        return normalize(chosen.detach().cpu().double(), dim=-1)

    row, own = rows(subject.decoder, latents), rows(subject.vectors, features)
    share = (row * own).sum(dim=1, keepdim=True)
    left = (row - share * own) * torch.where(share < 0, -1.0, 1.0)
    of_others = [(left * rows(subject.vectors, each)).sum(dim=1) for each in others.T]
    return torch.stack(of_others, dim=1).numpy()
