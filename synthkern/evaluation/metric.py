"""What a metric of an evaluation is: figures of the result that see each batch of samples.

A new one is a file with a subclass of :class:`Metric`, a field of
:class:`~synthkern.evaluation.result.SyntheticDataEvalResult`, None by default, for what it gives,
and an entry in :data:`synthkern.evaluation.metrics.METRICS`. Files, logs, suites, reports and
exports take the field as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.calculator import Array, Groups, GroupSums
from synthkern.evaluation.matching import Matching
from synthkern.plan.manifolds import Manifolds
from synthkern.sparse import SparseActivations


@dataclass(frozen=True, eq=False)
class SubjectViews:
    """What is evaluated in several views, or from one to another.

    Attributes:
        widths: D_v of the views that decoder rows and features' vectors have side by side.
        encoder: [D, M] where another view than that of the decoder is encoded, else None.
        inputs: [N', D] vectors of the features that the encoded views show, with an encoder.
        edges: of a map's outputs, the features that each has an edge from, int64 each; None
            without a map.
    """

    widths: tuple[int, ...]
    encoder: torch.Tensor | None = None
    inputs: torch.Tensor | None = None
    edges: Sequence[torch.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """What is evaluated.

    Attributes:
        decoder: [M, D] decoder rows, floating point, finite, where the SAE is.
        vectors: [N, D] feature vectors, where the dictionary is.
        matching: of these, the latents with the features.
        parents: [N] int64, each feature's parent in the world's tree, -1 for none; None for a
            world without a tree.
        samples: how many there will be.
        groups: G, into how many the samples are cut for the jackknife; 0 without samples.
        seed: of what is chosen at random.
        held_out: pairs of features that the SAE's training never had together, where these are
            samples that do.
        rescales: whether the SAE divides latents by their decoder rows' norms to decode them.
        manifolds: features that are circles; or None.
        views: of a world in several views, else None.
    """

    decoder: torch.Tensor
    vectors: torch.Tensor
    matching: Matching
    parents: npt.NDArray[np.int64] | None
    samples: int
    groups: int
    seed: int = 0
    rescales: bool = False
    manifolds: Manifolds | None = None
    held_out: tuple[tuple[int, int], ...] = ()
    views: SubjectViews | None = None

    @property
    def num_latents(self) -> int:
        """M."""
        return len(self.decoder)

    @property
    def num_features(self) -> int:
        """N."""
        return len(self.vectors)


class Batch(NamedTuple):
    """Successive samples.

    Attributes:
        features: [B, N] the entries above zero; of manifolds, absolute values.
        latents: [B, M] the entries that are not zero.
        hidden: [B, D] the SAE's inputs.
        output: [B, D] its reconstructions.
        groups: which groups the samples are in.
        signed: [B, N] the features' entries that are not zero, as they are; None where those are
            ``features``.
    """

    features: SparseActivations
    latents: SparseActivations
    hidden: torch.Tensor
    output: torch.Tensor
    groups: Groups
    signed: SparseActivations | None = None


class Metric(GroupSums, ABC):
    """One metric, or several that have much in common, of some groups of samples.

    Sums over samples are kept by group: pass their zeros to ``super().__init__``, add to them with
    ``self._add(batch.groups, name=terms)`` where terms are [groups of the batch, ...], and make
    figures of ``self.left_out()``.

    Attributes:
        fields: of the result that it gives.
        nearest: how many of each latent's nearest features the subject's matching has, if there are
            as many.
    """

    fields: ClassVar[tuple[str, ...]]
    nearest: ClassVar[int] = 1

    def __init__(self, subject: Subject, **sums: Array) -> None:
        super().__init__(**sums)
        self.keep_apart(subject.groups)
        self.subject = subject

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Whether there can be such figures; where not, its fields are None."""
        return True

    def add_batch(self, batch: Batch) -> None:
        """Add samples; they come in the order of their groups."""

    @abstractmethod
    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """The figures of all samples.

        Args:
            latents: [G + 1, M] each: precision, recall, f1_score, accuracy and rate of single
                latents, over all samples but those of each group, and at last over all.

        Returns:
            by field, as its type has it but with dictionaries for dataclasses. A leaf is a number
            where no sample has a say in it, or an array [G + 1] as above, from which the figure
            and its standard error follow.
        """
