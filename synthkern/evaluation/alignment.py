"""Which feature of a tree each latent stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.metric import Subject

#: A decoder row is made of a feature from this share of its length on. With random directions of
#: 768 dimensions the nearest of 16,384 has 0.16; the sum of a feature and its five ancestors, at
#: right angles and of one length, has 0.41 of each.
_LEAST_SHARE = 0.4

#: Features that a row may be made of: the nearest. At right angles no more than six can be.
NEAREST = 8

#: Rows that are looked at together; with their nearest features 24 MiB at 768 dimensions.
_ROWS = 512

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Latents and the features that they stand for.

    Attributes:
        level: [N] int64, how many ancestors each feature has.
        feature_of: [M] int64, the feature that each latent stands for: the deepest of those that
            its decoder row is made of, of several the nearest, so that a child's row to which its
            parent's direction was added stands for the child; -1 for none.
        latent_of: [N] int64, the latent of each feature: of those that stand for it the nearest,
            the first of equals; -1 where none does.
    """

    level: Ints
    feature_of: Ints
    latent_of: Ints


def align(subject: Subject) -> Alignment:
    """The alignment of latents with the features of a world's tree.

    What a row is made of is found by orthogonal matching pursuit among the 8 features of greatest
    |cosine|: again and again comes the one with the largest component in what the least-squares fit
    by those before leaves of the row, as long as that is at least 0.4 of the row's length. A true
    feature's row is made of this feature alone, whatever its cosine with others.
    """
    assert subject.parents is not None
    near = subject.matching.nearest[:, :NEAREST]
    cosine = subject.matching.nearest_cosine[:, :NEAREST]
    level = levels_of(subject.parents)
    rank = np.where(_made_of(subject, near), level[near] + cosine / 2, -1)
    latent = np.flatnonzero(rank.max(axis=1, initial=-1) >= 0)
    place = rank[latent].argmax(axis=1) if len(latent) else latent
    feature_of = np.full(subject.num_latents, -1)
    feature_of[latent] = near[latent, place]
    latent_of = np.full(subject.num_features, -1)
    order = np.lexsort((-latent, cosine[latent, place]))
    # Of what is written twice the last stays.
    latent_of[feature_of[latent[order]]] = latent[order]
    return Alignment(level, feature_of, latent_of)


def levels_of(parents: Ints) -> Ints:
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


def _made_of(subject: Subject, near: Ints) -> npt.NDArray[np.bool_]:
    """Which of its nearest features each row is made of: [M, K]."""
    made = np.zeros(near.shape, np.bool_)
    unit = torch.nn.functional.normalize
    for first in range(0, len(near), _ROWS):
        part = slice(first, first + _ROWS)
        features = torch.from_numpy(near[part]).to(subject.vectors.device)
        vectors = unit(subject.vectors[features].double(), dim=2)
        rows = unit(subject.decoder[part].detach().to(vectors.device).double(), dim=1)
        products, along = vectors @ vectors.mT, (vectors @ rows[:, :, None])[:, :, 0]
        made[part] = _pursuit(products.cpu().numpy(), along.cpu().numpy())
    return made


def _pursuit(
    products: npt.NDArray[np.float64], along: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """What matching pursuit finds, of products [B, K, K] of the vectors and [B, K] with the row."""
    found = np.zeros(along.shape, np.bool_)
    left, size = along, along.shape[1]
    for _ in range(size):
        components = np.where(found, 0, np.abs(left))
        best = components.argmax(axis=1)
        more = np.flatnonzero(components.max(axis=1, initial=0) >= _LEAST_SHARE)
        if not len(more):
            break
        found[more, best[more]] = True
        both = found[:, :, None] & found[:, None]
        fit = np.linalg.solve(np.where(both, products, np.eye(size)), (along * found)[:, :, None])
        left = along - (products @ fit)[:, :, 0]
    return found
