"""How often a child's latent stands in for its parent's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.alignment import NEAREST, Alignment, align
from synthkern.evaluation.calculator import Array, Groups
from synthkern.evaluation.metric import Batch, Metric, Subject
from synthkern.evaluation.places import Places
from synthkern.evaluation.ranges import ranges

#: A decoder row carries the parent's direction from this share of its length on. What training
#: leaves by chance in 768 dimensions has a deviation of 0.036.
_LEAST_CARRIED = 0.2

#: It counts where the carriers write this share of what they and the parent's latent write.
_LEAST_SHARE = 0.2

#: One carrier does it where it writes this share of what all carriers write.
_SINGLE_SHARE = 2 / 3

#: Pairs whose rows are looked at together: 48 MiB at 768 dimensions.
_PAIRS = 2**12

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AbsorptionLevel:
    """Absorption of the parents at one level of the tree; see :class:`Absorption`.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.AbsorptionLevel(full=0.25, partial=0.5, spread=0.0).partial
        0.5
    """

    full: float
    partial: float
    spread: float


@dataclass(frozen=True)
class Absorption:
    """How often a parent's direction is written by its child's latent instead of its own.

    In language models this is measured with a probe for the parent ("A is for Absorption",
    arXiv 2409.14507; SAEBench, arXiv 2503.09532); here both features and their directions are
    known. What is looked at are all samples of all edges from parent p to child c, where both are
    active and p has a latent, m. Let u be unit feature vectors and r decoder rows (of norm 1 where
    the SAE rescales latents by these norms).

    - A row is made of the features that orthogonal matching pursuit finds among its 8 nearest:
      again and again the one with the largest component in what the fit by those before leaves,
      while it is at least 0.4 of the row's length. The latent stands for the deepest of these in
      the tree, of several the nearest. A feature's own latent is the nearest of those that stand
      for it.
    - Of a latent l that stands for a feature h, what it carries of p is the coefficient ``A`` in
      the least-squares fit ``r_l = A u_p + B u_h``, so that a true feature's row carries nothing
      of others, whatever their cosine. It is a carrier of the edge where h is c or below c,
      ``|A| >= 0.2 |r_l|``, and it fires with ``A z_l > 0``: it writes ``A z_l``.
    - The sample is absorbed where the carriers write at least a fifth of what they and m write
      along u_p; m writes ``max(0, z_m r_m . u_p)``.
    - An absorbed sample is *spread* where no carrier writes two thirds of what all carriers do,
      else *full* where m is silent and *partial* where it fires.

    A world without a tree, and samples without an edge, have no absorption. All of this is relative
    within a sample: scales of the inputs do not matter. An SAE whose rows are the true features has
    0.

    Attributes:
        full: share of these samples that are fully absorbed; as the others in [0, 1], together at
            most 1.
        partial: share that are in part.
        spread: share that are by several latents.
        by_level: the same of the parents with no ancestor, with one, and so on; NaN of a level
            without samples.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> generator = synthetic.ActivationGenerator(
        ...     4, 0.5, modify_activations=synthetic.hierarchy_modifier(tree)
        ... )
        >>> features = synthetic.FeatureDictionary.from_vectors(torch.eye(4), torch.zeros(4))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=4))
        >>> synthetic.init_sae_to_match_feature_dict(sae, features)
        >>> with torch.no_grad():
        ...     sae.W_enc[1, 0] = -1  # the child's feature turns the parent's latent off
        ...     sae.W_dec[1, 0] = 1  # and the child's latent writes both
        >>> synthetic.eval_sae_on_synthetic_data(sae, features, generator, 1000, seed=0).absorption
        Absorption(full=1.0, partial=0.0, spread=0.0, by_level=[AbsorptionLevel(full=1.0, ...)])
    """

    full: float
    partial: float
    spread: float
    by_level: list[AbsorptionLevel]


class AbsorptionMetric(Metric):
    """Counts of absorbed samples, by the parent's level; see :class:`Absorption`.

    They are made of the latents that carry something of an ancestor, which few do: on the CPU.
    """

    fields = ("absorption",)
    nearest = NEAREST

    def __init__(self, subject: Subject) -> None:
        assert subject.parents is not None
        alignment = align(subject)
        self._parents = subject.parents
        self._level = alignment.level
        levels = np.zeros(alignment.level.max(), np.int64)
        super().__init__(subject, edges=levels, full=levels, partial=levels, spread=levels)
        latent_of = np.append(alignment.latent_of, -1)
        self._latent = latent_of[: subject.num_features]
        #: Whether a feature has a parent that has a latent.
        self._is_child = latent_of[subject.parents] >= 0
        self._is_in_edge = self._is_child.copy()
        self._is_in_edge[subject.parents[self._is_child]] = True
        self._carries = _carries(subject, alignment)
        self._gain = _gains(subject, alignment)
        #: Whether a latent carries anything, or is a feature's own.
        self._is_looked_at = self._carries.counts > 0
        self._is_looked_at[alignment.latent_of[alignment.latent_of >= 0]] = True

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Whether there is a tree."""
        return subject.parents is not None

    def add_batch(self, batch: Batch) -> None:
        """Add samples."""
        active = Places(batch.features, self._is_in_edge)
        group = batch.groups.of_rows.numpy()
        child = self._is_child[active.columns]
        rows, children = active.rows[child], active.columns[child]
        edges = active.find(rows, self._parents[children]) >= 0
        self._add_counts(batch.groups, "edges", group[rows[edges]], children[edges])

        firing = Places(batch.latents, self._is_looked_at)
        events = self._events(active, firing)
        if events is None:
            return
        rows, children = events.rows, events.children
        main = self._latent[self._parents[children]]
        place = firing.find(rows, main)
        fires = place >= 0
        own = np.where(fires, firing.values[place] * self._gain[main], 0)
        own = np.maximum(own, 0)  # NaN stays, and is not absorbed
        absorbed = events.written >= _LEAST_SHARE * (events.written + own)
        single = events.most >= _SINGLE_SHARE * events.written
        for name, kind in (
            ("full", absorbed & single & ~fires),
            ("partial", absorbed & single & fires),
            ("spread", absorbed & ~single),
        ):
            self._add_counts(batch.groups, name, group[rows[kind]], children[kind])

    def _events(self, active: Places, firing: Places) -> _Events | None:
        """The samples of edges with carriers, and what these write."""
        carries = self._carries
        pair, entry = ranges(carries.begin[firing.columns], carries.counts[firing.columns])
        written = firing.values[entry] * carries.carried[pair]
        rows, children = firing.rows[entry], carries.child[pair]
        kept = written > 0
        kept &= active.find(rows, children) >= 0
        kept &= active.find(rows, self._parents[children]) >= 0
        if not kept.any():
            return None
        rows, children, written = rows[kept], children[kept], written[kept]
        size = np.int64(len(self._parents))
        keys, of = np.unique(rows * size + children, return_inverse=True)
        most = np.zeros(len(keys))
        np.maximum.at(most, of, written)
        return _Events(keys // size, keys % size, np.bincount(of, written).astype(np.float64), most)

    def _add_counts(self, groups: Groups, name: str, group: Ints, children: Ints) -> None:
        levels = self._sums[name].shape[1]
        keys = group * levels + self._level[children] - 1
        counts = np.bincount(keys, minlength=len(groups.sizes) * levels)
        self._add(groups, **{name: counts.reshape(-1, levels)})

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """The shares, where there were samples of edges."""
        sums = self.left_out()
        edges = sums.pop("edges")
        if not edges[-1].any():
            return {}
        by_level = [
            {name: _share(counts[:, level], edges[:, level]) for name, counts in sums.items()}
            for level in range(edges.shape[1])
        ]
        whole = {
            name: _share(counts.sum(axis=1), edges.sum(axis=1)) for name, counts in sums.items()
        }
        return {"absorption": {**whole, "by_level": by_level}}


class _Events(NamedTuple):
    """Samples of edges: the row, the child, and what all carriers and the first of them write."""

    rows: Ints
    children: Ints
    written: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]


class _Carries(NamedTuple):
    """What latents carry of ancestors of their features: latent l has pairs begin[l] ... .

    ``child`` is the ancestor's child on the way to the latent's feature.
    """

    begin: Ints
    counts: Ints
    child: Ints
    carried: npt.NDArray[np.float64]


def _carries(subject: Subject, alignment: Alignment) -> _Carries:
    found = [_carried(subject, alignment, *pairs) for pairs in _pairs(subject, alignment)]
    latent, child, carried = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(latent, kind="stable")
    counts = np.bincount(latent, minlength=subject.num_latents)
    return _Carries(counts.cumsum() - counts, counts, child[order], carried[order])


def _pairs(subject: Subject, alignment: Alignment) -> Iterator[tuple[Ints, Ints]]:
    """Latents, and features from their own upwards whose parents have latents; a few at a time."""
    parents = subject.parents
    assert parents is not None
    latent = np.flatnonzero(alignment.feature_of >= 0)
    child = alignment.feature_of[latent]
    while True:
        below = parents[child] >= 0
        latent, child = latent[below], child[below]
        has = alignment.latent_of[parents[child]] >= 0
        for first in range(0, max(1, int(has.sum())), _PAIRS):
            part = slice(first, first + _PAIRS)
            yield latent[has][part], child[has][part]
        if not len(child):
            return
        child = parents[child]


def _carried(
    subject: Subject, alignment: Alignment, latent: Ints, child: Ints
) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Of pairs those that carry something."""
    assert subject.parents is not None
    rows = _rows(subject, latent)
    of_parent = _directions(subject, subject.parents[child])
    of_own = _directions(subject, alignment.feature_of[latent])
    along, own, cosine = (
        np.einsum("pd,pd->p", a, b)
        for a, b in ((rows, of_parent), (rows, of_own), (of_parent, of_own))
    )
    # Of one direction for both nothing tells who carries it.
    rest = 1 - np.square(cosine)
    carried = (along - cosine * own) / np.where(rest > 1e-6, rest, np.inf)
    kept = (np.abs(carried) >= _LEAST_CARRIED * np.linalg.norm(rows, axis=1)) & (carried != 0)
    return latent[kept], child[kept], carried[kept]


def _gains(subject: Subject, alignment: Alignment) -> npt.NDArray[np.float64]:
    """What each latent at 1 writes along the feature that it is the latent of: [M]."""
    gains = np.zeros(subject.num_latents)
    feature = np.flatnonzero(alignment.latent_of >= 0)
    for first in range(0, len(feature), _PAIRS):
        part = feature[first : first + _PAIRS]
        latent = alignment.latent_of[part]
        gains[latent] = np.einsum("pd,pd->p", _rows(subject, latent), _directions(subject, part))
    return gains


def _share(part: Array, whole: Array) -> Array:
    return np.where(whole > 0, part / np.maximum(1, whole), np.nan)


def _rows(subject: Subject, latent: Ints) -> npt.NDArray[np.float64]:
    """What latents at 1 write: [P, D]."""
    rows = _taken(subject.decoder, latent)
    return _unit(rows) if subject.rescales else rows


def _directions(subject: Subject, feature: Ints) -> npt.NDArray[np.float64]:
    """Unit vectors of features: [P, D]; zeros stay."""
    return _unit(_taken(subject.vectors, feature))


def _taken(rows: torch.Tensor, places: Ints) -> npt.NDArray[np.float64]:
    taken = rows.detach()[torch.from_numpy(places).to(rows.device)]
    return taken.double().cpu().numpy()


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
