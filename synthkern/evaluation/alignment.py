"""Which feature of a tree each latent stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthkern.evaluation.matching import Matching


#: A decoder row may stand for a feature from this |cosine| on. With random directions of 768
#: dimensions the nearest of 16,384 has one of 0.16; the sum of a feature and its five ancestors, at
#: right angles and of one length, has one of 0.41 with each.
_LEAST_COSINE = 0.4

#: Of so many features that each latent is nearest to: at right angles no more than six have it.
NEAREST = 8


@dataclass(frozen=True, eq=False)
class Alignment:
    """Latents and the features that they stand for.

    Attributes:
        level: [N] int64, how many ancestors each feature has.
        feature_of: [M] int64, the feature that each latent stands for: of those that its decoder
            row has a |cosine| of at least 0.4 with one of the deepest, and of these the nearest, so
            that a child's row to which its parent's direction was added stands for the child; -1
            for none. Only the :data:`NEAREST` of them count.
        latent_of: [N] int64, the latent of each feature: of those that stand for it the nearest,
            the first of equals; -1 where none does.
    """

    level: npt.NDArray[np.int64]
    feature_of: npt.NDArray[np.int64]
    latent_of: npt.NDArray[np.int64]


def align(matching: Matching, parents: npt.NDArray[np.int64]) -> Alignment:
    """The alignment of latents with the features of a tree.

    Args:
        matching: of the decoder rows with the feature vectors.
        parents: [N], each feature's parent, -1 for none.
    """
    latent, place = np.nonzero(matching.nearest_cosine[:, :NEAREST] >= _LEAST_COSINE)
    feature, cosine = (x[latent, place] for x in (matching.nearest, matching.nearest_cosine))
    level = levels_of(parents)
    feature_of = np.full(len(matching.best), -1, np.int64)
    last = np.lexsort((-feature, cosine, level[feature], latent))
    # Of what is written twice the last stays.
    feature_of[latent[last]] = feature[last]
    latent_of = np.full(len(parents), -1, np.int64)
    own = feature_of[latent] == feature
    latent, feature, cosine = latent[own], feature[own], cosine[own]
    last = np.lexsort((-latent, cosine, feature))
    latent_of[feature[last]] = latent[last]
    return Alignment(level, feature_of, latent_of)


def levels_of(parents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many ancestors each feature has: [N]."""
    above = parents.copy()
    levels = (above >= 0).astype(np.int64)
    # Each round doubles how far above is, so that a chain of K features takes log K rounds.
    below = np.flatnonzero(above >= 0)
    while len(below):
        levels[below] += levels[above[below]]
        above[below] = above[above[below]]
        below = below[above[below] >= 0]
    return levels
