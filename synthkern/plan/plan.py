"""The compiled form of a world that the samplers read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch

from synthkern.plan.by_value import PickledByValue
from synthkern.plan.forest import Forest
from synthkern.plan.magnitudes import Magnitudes
from synthkern.plan.manifolds import Manifolds
from synthkern.plan.sequence import SequencePlan

#: Features share a factor row's length padded to a multiple of this: the stream adds up a
#: row in eight interleaved partial sums.
LANES = 8


@dataclass(frozen=True, eq=False)
class Plan(PickledByValue):
    """Everything that decides a sample, besides the seed and the sample's index.

    Attributes:
        probability: [N] float32, how often each feature fires before any forest.
        fire_below: [N] int64, independent firing: a feature fires where its 40 random bits are
            below this, floor(p * 2**40 + 1/2). Unused under a copula.
        threshold: [N] float32, copula: a feature fires where its normal exceeds this,
            the inverse normal distribution function of 1 - p (infinite for p = 0 and 1).
        factor: [N, R] float32, copula: loadings on the R factors, padded with zeros so that R
            is a multiple of 8; R = 0 means independent firing.
        noise_scale: [N] float32, copula: the square root of the unique variance; zero
            throughout for a full correlation matrix, whose factor is its Cholesky factor.
        rank: number of factors before padding.
        triangular: whether ``factor`` is lower triangular (full correlation matrix).
        mean: [N] float32, mean magnitudes.
        std: [N] float32, standard deviations of the magnitudes.
        forests: applied in order; the first is walked while sampling.
        manifolds: features that are circles, or None.
        magnitudes: their distribution; None for normals of that mean and deviation.
        sequence: how long words are held along sequences; None where every sample is by itself.
    """

    probability: torch.Tensor
    fire_below: torch.Tensor
    threshold: torch.Tensor
    factor: torch.Tensor
    noise_scale: torch.Tensor
    rank: int
    triangular: bool
    mean: torch.Tensor
    std: torch.Tensor
    forests: tuple[Forest, ...] = ()
    manifolds: Manifolds | None = None
    magnitudes: Magnitudes | None = None
    sequence: SequencePlan | None = None

    @property
    def num_features(self) -> int:
        """Number of features N."""
        return self.mean.numel()

    def columns(self) -> torch.Tensor:
        """What the exact test reads of a feature, beside each other: [N, 4] int32.

        The bits of threshold and noise scale under a copula, else the byte and the word that a
        feature's 40 random bits must be below; then those of mean and standard deviation.
        """
        first, second = self.threshold.view(torch.int32), self.noise_scale.view(torch.int32)
        if self.rank == 0:
            first = (self.fire_below >> 32).to(torch.int32)
            second = (self.fire_below & 0xFFFFFFFF).to(torch.uint32).view(torch.int32)
        mean, std = self.mean.view(torch.int32), self.std.view(torch.int32)
        return torch.stack([first, second, mean, std], dim=1)

    @property
    def device(self) -> torch.device:
        """The device that all arrays are on."""
        return self.mean.device

    def without_manifolds(self) -> Plan:
        """The same whose samples are the magnitudes of manifolds' leaders; one and the same each
        time, so that what backends bind to it is made once.
        """
        if self.manifolds is None:
            return self
        if self not in _magnitudes:
            _magnitudes[self] = replace(self, manifolds=None)
        return _magnitudes[self]

    def to(self, device: torch.device | str) -> Plan:
        """This plan where it is on ``device`` already, else the same with every array there."""
        if self.device == torch.device(device):
            return self
        return Plan(
            probability=self.probability.to(device),
            fire_below=self.fire_below.to(device),
            threshold=self.threshold.to(device),
            factor=self.factor.to(device),
            noise_scale=self.noise_scale.to(device),
            rank=self.rank,
            triangular=self.triangular,
            mean=self.mean.to(device),
            std=self.std.to(device),
            forests=tuple(forest.to(device) for forest in self.forests),
            manifolds=None if self.manifolds is None else self.manifolds.to(device),
            magnitudes=None if self.magnitudes is None else self.magnitudes.to(device),
            sequence=None if self.sequence is None else self.sequence.to(device),
        )


#: Plans without their manifolds.
_magnitudes: WeakKeyDictionary[Plan, Plan] = WeakKeyDictionary()
