"""A world's sequences as flat arrays: what persists for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from synthkern.plan.by_value import PickledByValue
from synthkern.plan.forest import Forest
from synthkern.world.sequence import SequenceConfig

#: Thresholds of all laws together at most: 256 MiB of them.
_MOST_THRESHOLDS = 2**26


@dataclass(frozen=True, eq=False)
class SequencePlan(PickledByValue):
    """How long the words of features and factors are held; :mod:`synthkern.stream` says how.

    A law is the geometric distribution of one persistence rho: a 32-bit word becomes the number
    of k in 1 ... T with ``word < floor(rho**k * 2**32 + 1/2)``, that is ``least`` plus the number
    of its ``size`` thresholds from ``begin`` on that are at least the word.

    Attributes:
        length: T.
        persistence: [M] float64, rho of each law.
        laws: [M, 3] int32, begin, size and least.
        threshold: [K] int64, ``floor(rho**k * 2**32 + 1/2) - 1`` where that is neither -1 nor
            2**32 - 1, descending within a law.
        law: [N] int32, each feature's.
        factor_law: that of every factor.
    """

    length: int
    persistence: torch.Tensor
    laws: torch.Tensor
    threshold: torch.Tensor
    law: torch.Tensor
    factor_law: int

    @property
    def feature_persistence(self) -> torch.Tensor:
        """rho of each feature, float64 [N]."""
        return self.persistence[self.law.long()]

    @property
    def factor_persistence(self) -> float:
        """rho of every factor."""
        return float(self.persistence[self.factor_law])

    def packed_threshold(self) -> torch.Tensor:
        """The thresholds' 32 bits: [K] int32."""
        return self.threshold.to(torch.uint32).view(torch.int32)

    def to(self, device: torch.device | str) -> SequencePlan:
        """The same with every array on ``device``."""
        return SequencePlan(
            length=self.length,
            persistence=self.persistence.to(device),
            laws=self.laws.to(device),
            threshold=self.threshold.to(device),
            law=self.law.to(device),
            factor_law=self.factor_law,
        )


def compile_sequence(
    config: SequenceConfig, num_features: int, forests: Sequence[Forest]
) -> SequencePlan:
    """The laws of a config, for features on the levels that forests give them.

    Raises:
        ValueError: where the numbers are neither one for each feature nor at most one for each
            level, or a persistence so close to 1 that its table for so long sequences would be
            too large.
        TypeError: for anything but a config.
    """
    if not isinstance(config, SequenceConfig):
        raise TypeError(f"sequence must be a SequenceConfig or None, got {config!r}")
    of_feature = _by_feature(config, num_features, forests)
    every = np.append(of_feature, float(config.factor_persistence))
    persistence, law = np.unique(every, return_inverse=True)
    tables: list[np.ndarray] = []
    laws, begin = [], 0
    for rho in persistence:
        least, table = _thresholds(float(rho), config.length, _MOST_THRESHOLDS - begin)
        laws.append((begin, table.size, least))
        tables.append(table)
        begin += table.size
    return SequencePlan(
        length=config.length,
        persistence=torch.from_numpy(persistence),
        laws=torch.tensor(laws, dtype=torch.int32),
        threshold=torch.from_numpy(np.concatenate(tables)),
        law=torch.from_numpy(law[:num_features].astype(np.int32)),
        factor_law=int(law[num_features]),
    )


def feature_levels(num_features: int, forests: Sequence[Forest]) -> np.ndarray:
    """The level of each feature, int64 [N]: how many features are above it in the first forest
    that holds it, 0 outside forests.
    """
    levels = np.full(num_features, -1)
    for forest in forests:
        for depth, level in enumerate(forest.levels()):
            feature = forest.feature[level].numpy(force=True)
            levels[feature] = np.where(levels[feature] < 0, depth, levels[feature])
    return np.maximum(levels, 0)


def _by_feature(config: SequenceConfig, num_features: int, forests: Sequence[Forest]) -> np.ndarray:
    """rho of each feature, float64 [N]."""
    given = config.feature_persistence
    if isinstance(given, int | float):
        return np.full(num_features, float(given))
    numbers = np.array(given, dtype=np.float64)
    if numbers.size == num_features:
        return numbers
    level = feature_levels(num_features, forests)
    if numbers.size > level.max() + 1:
        raise ValueError(
            f"feature_persistence must be a number, numbers for each of {num_features} features, "
            f"or at most {level.max() + 1} numbers, one for each level of the trees, "
            f"got {numbers.size}"
        )
    return numbers[np.minimum(level, numbers.size - 1)]


def _thresholds(rho: float, length: int, room: int) -> tuple[int, np.ndarray]:
    """How many thresholds every word is below, and the others that some word is below, less 1.

    Powers are products of float64 one after the other, which every machine rounds the same way.
    """
    if rho == 1:
        return length, np.zeros(0, dtype=np.int64)
    # Further on, they round to 0; the logarithm's rounding matters little.
    needed = 0 if rho == 0 else int(-23 / np.log(rho)) + 2
    if min(length, needed) > room:
        raise ValueError(
            "feature_persistence and factor_persistence must be 1 or such that tables of about "
            f"min(length, 23 / (1 - persistence)) numbers for each fit in {_MOST_THRESHOLDS}, "
            f"got {rho!r} with length {length}"
        )
    powers = np.multiply.accumulate(np.full(min(length, needed), rho))
    bounds = np.floor(powers * 2.0**32 + 0.5).astype(np.int64)
    bounds = bounds[bounds > 0]
    least = int((bounds == 2**32).sum())
    return least, bounds[least:] - 1
