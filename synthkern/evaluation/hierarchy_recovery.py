"""Whether the latents' co-activation gives the true tree back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthkern.evaluation.alignment import NEAREST, align
from synthkern.evaluation.calculator import Array
from synthkern.evaluation.kept_samples import KeptSamples
from synthkern.evaluation.metric import Batch, Metric, Subject
from synthkern.evaluation.ranges import ranges

#: From this share of a latent's firings on another may be its parent. Of a BatchTopK SAE after ten
#: million samples of SynthSAEBench-16k half of the children fire with their parent's latent in 61%
#: of the samples, and one in ten thousand in 90%.
_MOSTLY = 0.5

#: How much more a parent may miss of its child than the latent that misses least, which is often an
#: ancestor further up: times, and in addition.
_MISSES = 1.5, 0.05

#: Of a latent that fires in fewer samples nothing is said.
_LEAST_FIRINGS = 10

#: Deviations by which two latents must fire together more often than independent ones would.
_DEVIATIONS = 4.0

#: Pairs of latents that fire together which are looked at, over all samples: at most 256 MiB, and a
#: quarter of a second.
_PAIRS = 2**25

#: Numbers of a dense table that is looked up in: 16 MiB.
_AT_ONCE = 2**24

#: Possible parents of a latent of which the best is looked for again without each group.
_CANDIDATES = 8

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HierarchyRecovery:
    """Edges from parent to child that latents' co-activation tells, beside the true ones.

    Each feature is stood for by one latent at most, see :class:`~synthkern.Absorption`. Where
    features form a tree, a child fires only where its ancestors do, of which the nearest fires most
    seldom. So the parent of latent b is told to be the latent a that fires most seldom among those
    that fire

    - in more samples than b, of which there are at least 10,
    - in at least half of the samples in which b does, and more often together with it than
      independent latents would by four standard deviations of that number, and
    - almost where b does: the share of b's samples that a misses is at most half as much again as
      the least that any such latent misses, and 5%,

    where there is one. The edge is right where a's feature is the parent of b's. Latents of
    features outside every tree take part. An SAE whose latents are the features recovers the whole
    tree, given samples enough and siblings that are not nearly always active together.

    Attributes:
        precision: share of the edges told that are right, in [0, 1]; 0 where none is told. An
            ancestor further up, which is all that can be told where the parent has no latent, is
            not right.
        recall: number of right edges over that of all edges of the world's tree, in [0, 1].

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
        >>> result = synthetic.eval_sae_on_synthetic_data(sae, features, generator, 1000, seed=0)
        >>> result.hierarchy_recovery
        HierarchyRecovery(precision=1.0, recall=1.0)
    """

    precision: float
    recall: float


class HierarchyRecoveryMetric(Metric):
    """Edges told by counts of latents that fire together; see :class:`HierarchyRecovery`.

    The counts are of up to 131,072 samples, the first of each group, and fewer where more than
    2**25 pairs of latents fire together in these. They are made at the end, on the CPU.
    """

    fields = ("hierarchy_recovery",)
    nearest = NEAREST

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._kept = KeptSamples(subject.groups, subject.num_latents)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Whether there is a tree to recover, and a sample."""
        return subject.parents is not None and subject.groups > 0

    def add_batch(self, batch: Batch) -> None:
        """Add samples."""
        self._kept.add(batch.groups, batch.latents)

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """Precision and recall."""
        parents = self.subject.parents
        assert parents is not None
        latent_of = align(self.subject).latent_of
        feature = np.flatnonzero(latent_of >= 0)
        told, right = self._edges(latent_of[feature], feature, parents)
        precision = right / np.maximum(1, told)
        recall = right / (parents >= 0).sum()
        return {"hierarchy_recovery": {"precision": precision, "recall": recall}}

    def _edges(self, members: Ints, feature: Ints, parents: Ints) -> tuple[Ints, Ints]:
        """Edges told and right ones, without each group and of all: [G + 1] each."""
        groups = [self._fires(number, members) for number in range(self.subject.groups)]
        fires = np.stack([np.asarray(x.sum(axis=0)) for x in groups])
        samples = np.array([x.shape[0] for x in groups])
        pairs = _candidates(groups, fires)
        if not len(pairs.a):
            return np.zeros(len(groups) + 1, np.int64), np.zeros(len(groups) + 1, np.int64)
        together = np.stack([_together(x, pairs) for x in groups])

        def left_out(counts: Array) -> Array:
            whole = counts.sum(axis=0)
            return np.concatenate((whole - counts, whole[None]))

        of_all = left_out(fires)
        may_be = pairs.told(
            left_out(together), of_all[:, pairs.a], of_all[:, pairs.b], left_out(samples)[:, None]
        )
        # Of each latent's pairs, the rarest first, the first that may be is told.
        none = len(pairs.a)
        first = np.minimum.reduceat(np.where(may_be, np.arange(none), none), pairs.begins, axis=1)
        is_right = np.append(parents[feature[pairs.b]] == feature[pairs.a], False)
        return (first < none).sum(axis=1), is_right[first].sum(axis=1)

    def _fires(self, number: int, members: Ints) -> Any:
        """Which of some latents fire in the samples of a group: a sparse matrix [S, K] of ones."""
        fires = self._kept.matrices([number])[0][:, members]
        fires.data = np.ones_like(fires.data, np.int32)
        pairs = np.square(np.diff(fires.indptr).astype(np.int64)).cumsum()
        return fires[: max(1, int((pairs <= _PAIRS // self.subject.groups).sum()))]


class _Pairs(NamedTuple):
    """Latents a that may be the parents of latents b: [P], ordered by b."""

    a: Ints
    b: Ints

    @property
    def begins(self) -> Ints:
        """Where each b begins."""
        return np.flatnonzero(np.diff(self.b, prepend=-1))

    def per_pair(self, numbers: Array) -> Array:
        """Numbers [..., one for each b that there is] as [..., P]."""
        return np.repeat(numbers, np.diff(self.begins, append=len(self.b)), axis=-1)

    def taken(self, order: Ints | npt.NDArray[np.bool_]) -> _Pairs:
        """Some of them."""
        return _Pairs(self.a[order], self.b[order])

    def told(self, together: Array, of_a: Array, of_b: Array, samples: Any) -> Array:
        """Whether each a may be b's parent, by how often they fire: [..., P]."""
        rate = of_a / np.maximum(1, samples)
        expected = of_b * rate
        share = together / np.maximum(1, of_b)
        may_be = (of_a > of_b) & (of_b >= _LEAST_FIRINGS) & (share >= _MOSTLY)
        may_be &= together - expected >= _DEVIATIONS * np.sqrt(expected * (1 - rate))
        most = np.maximum.reduceat(np.where(may_be, share, 0), self.begins, axis=-1)
        times, more = _MISSES
        return may_be & (1 - share <= times * (1 - self.per_pair(most)) + more)


def _candidates(groups: list[Any], fires: Ints) -> _Pairs:
    """Those that may be for all samples or without some group, of each latent the rarest first: up
    to eight, and the one that fires with it most often.
    """
    from scipy import sparse

    every = sparse.vstack(groups, format="csr")
    both = (every.T @ every).tocoo()
    total = fires.sum(axis=0)
    least = (total - fires.max(axis=0))[both.col]
    kept = (both.data >= _MOSTLY * least) & (total[both.col] >= _LEAST_FIRINGS)
    kept &= (total[both.row] >= total[both.col]) & (both.row != both.col)
    kept = np.flatnonzero(kept)
    kept = kept[np.argsort(both.col[kept], kind="stable")]
    pairs = _Pairs(both.row[kept].astype(np.int64), both.col[kept].astype(np.int64))
    if not len(kept):
        return pairs
    together, a, b = both.data[kept], pairs.a, pairs.b
    told = pairs.told(together, total[a], total[b], every.shape[0])
    most = together == pairs.per_pair(np.maximum.reduceat(together, pairs.begins))
    order = np.lexsort((a, total[a], ~told, ~most, b))
    pairs = pairs.taken(order)
    rank = np.arange(len(order)) - pairs.per_pair(pairs.begins)
    pairs = pairs.taken(rank <= _CANDIDATES)
    return pairs.taken(np.lexsort((pairs.a, total[pairs.a], pairs.b)))


def _together(fires: Any, pairs: _Pairs) -> Ints:
    """In how many samples [S, K] the latents of each pair fire together: [P]."""
    samples, latents = fires.shape
    counts = np.bincount(pairs.b, minlength=latents)
    begins = counts.cumsum() - counts
    found = np.zeros(len(pairs.b), np.int64)
    step = max(1, _AT_ONCE // max(1, latents))
    for first in range(0, samples, step):
        part = fires[first : first + step].tocoo()
        dense = np.zeros(part.shape, np.bool_)
        dense[part.row, part.col] = True
        pair, entry = ranges(begins[part.col], counts[part.col])
        both = dense[part.row[entry], pairs.a[pair]]
        found += np.bincount(pair[both], minlength=len(found))
    return found
