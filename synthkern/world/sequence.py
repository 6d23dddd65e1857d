"""Activations along sequences: how long they are, and what persists from position to position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthkern._checks import as_float, as_int, is_number, plain_fields
from synthkern.world.registry import PlainConfig

#: Positions of a sequence at most: sums of a position and two spans fit 32 bits.
MOST_POSITIONS = 2**30


@dataclass
class SequenceConfig(PlainConfig):
    """Samples are positions of sequences, along which features and factors persist.

    Sample i is position i mod T of sequence i div T. A feature's random words, which decide
    whether it fires and how strongly, are held from one position to the next and drawn anew at
    renewals; so are a copula's factors, each by itself. With persistence rho a word at position t
    is still that of position t - k with probability rho**k, and independent of it otherwise, so
    that at every position everything is distributed as in the world without sequences, and

    - the autocorrelation at lag k of a factor, and without a copula that of whether a feature
      fires and of its value before any hierarchy, is rho**k;
    - under a copula features with persistence rho follow factors of persistence phi, and only
      where rho = phi = 1 is all of a feature's history one draw.

    The times between renewals are geometric where rho is, but those of one element within one
    sequence are all of the same length: correlations of two positions are exactly those of
    independent renewals, of three and more they are not.

    Attributes:
        length: T, positions of a sequence, in [1, 2**30].
        feature_persistence: rho in [0, 1], a number, or numbers: one for each level of the trees
            from the top down, the last one for all below too, features outside trees being of
            level 0; or one for each feature.
        factor_persistence: rho of the factors of a copula, in [0, 1].

    Raises:
        ValueError: for a value out of range.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> sequence = synthetic.SequenceConfig(length=8, feature_persistence=0.9)
        >>> cfg = synthetic.SyntheticModelConfig(16, 4, sequence=sequence, seed=0)
        >>> synthetic.SyntheticModel(cfg).sample_sequences(3, seed=1).shape
        torch.Size([3, 8, 4])
    """

    _called = "sequence"

    length: int
    feature_persistence: float | Sequence[float] = 0.0
    factor_persistence: float = 0.0

    def __post_init__(self) -> None:
        if hasattr(self.feature_persistence, "tolist"):
            self.feature_persistence = self.feature_persistence.tolist()
        plain_fields(self)
        as_int("length", self.length, low=1, high=MOST_POSITIONS)
        as_float("factor_persistence", self.factor_persistence, low=0, high=1)
        name = "feature_persistence"
        if is_number(self.feature_persistence) or not isinstance(
            self.feature_persistence, list | tuple
        ):
            as_float(name, self.feature_persistence, low=0, high=1)
            return
        self.feature_persistence = list(self.feature_persistence)
        if not self.feature_persistence:
            raise ValueError(f"{name} must be a number or at least one number, got none")
        for k, rho in enumerate(self.feature_persistence):
            as_float(f"{name}[{k}]", rho, low=0, high=1)
