"""Shifts: a world and its twin out of its distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from synthkern._checks import as_float, as_int, as_seed, plain_fields
from synthkern.world.registry import PlainConfig

#: The world that is trained on, and its twin.
TRAINING, EVALUATION = "training", "evaluation"


@dataclass
class ShiftConfig(PlainConfig):
    """What differs between a world and its shifted twin, which is evaluated on.

    The features and their vectors are the same. The world itself never has a forbidden pair of
    features active together; the twin has no such limit, and other rates and another correlation
    where these are asked for. :meth:`synthkern.SyntheticModel.shifted` gives the twin.

    A forbidden pair (a, b) is a later forest of the world, with a and b at the top as an exclusive
    group and all that is below them in the world's trees below them here: of a sample in which both
    are active one is kept, each with equal probability, and the other falls silent with all that is
    below it. It is as if a hierarchy's mutual exclusion were put between any two features. Pairs
    that share no feature are one forest; others are applied one after the other. So P(a active)
    becomes P(a) - P(a and b) / 2 of one pair, and as much of everything below goes: what is lost
    altogether is told by :meth:`synthkern.SyntheticModel.describe`.

    Attributes:
        forbidden_pairs: pairs of features that never are active together in the world.
        num_forbidden_pairs: so many more, drawn at random, of features that are in no other pair.
        forbidden_level: of the trees, that these are drawn from: 0 for their roots, so that whole
            trees never meet; 1 for what is below, and so on. In a world without trees 0 is all
            features.
        permuted_rates: share in [0, 1] of the features whose base rates are dealt anew among them
            in the twin, none keeping its own. Those of the roots are dealt among roots, those of
            each level below among that level, and those outside the trees among these, so that
            trees stay as full as they are; features that never fire take no part.
        rate_factor: on the base rates of roots and of features outside the trees in the twin, at
            least 0, and so on the rates of all that is below; where a rate would be above 1 it is
            1, with a warning.
        correlation_scale: of another random correlation in the twin, the standard deviation of its
            loadings, 0 for none; see :class:`LowRankCorrelationConfig`. It has the rank of the
            world's, or 32. None keeps the world's correlation, or with a seed its scale.
        correlation_seed: of that correlation; where None, and there is a scale, one that follows
            from the world's seed and :attr:`seed`.
        seed: of what is drawn at random.
        side: "training" for the world itself, "evaluation" for its twin.

    Example:
        >>> import synthkern as synthetic
        >>> shift = synthetic.ShiftConfig(forbidden_pairs=[(0, 1)], rate_factor=0.5)
        >>> cfg = synthetic.SyntheticModelConfig(4, 4, shift=shift, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> both = lambda world: (world.sample_with_features(10_000, seed=0)[1][:, :2] > 0).all(1)
        >>> int(both(model).sum()), int(both(model.shifted()).sum()) > 0
        (0, True)
    """

    _called = "shift"

    forbidden_pairs: tuple[tuple[int, int], ...] = ()
    num_forbidden_pairs: int = 0
    forbidden_level: int = 0
    permuted_rates: float = 0.0
    rate_factor: float = 1.0
    correlation_scale: float | None = None
    correlation_seed: int | None = None
    seed: int = 0
    side: str = TRAINING

    def __post_init__(self) -> None:
        plain_fields(self)
        self.forbidden_pairs = _pairs(self.forbidden_pairs)
        as_int("num_forbidden_pairs", self.num_forbidden_pairs, low=0)
        as_int("forbidden_level", self.forbidden_level, low=0)
        as_float("permuted_rates", self.permuted_rates, low=0, high=1)
        as_float("rate_factor", self.rate_factor, low=0)
        if self.correlation_scale is not None:
            as_float("correlation_scale", self.correlation_scale, low=0)
        if self.correlation_seed is not None:
            as_seed("correlation_seed", self.correlation_seed)
        as_seed("seed", self.seed)
        if self.side not in (TRAINING, EVALUATION):
            raise ValueError(f'side must be "{TRAINING}" or "{EVALUATION}", got {self.side!r}')

    @property
    def is_twin(self) -> bool:
        """Whether it is the twin's side."""
        return self.side == EVALUATION

    @property
    def has_other_correlation(self) -> bool:
        """Whether the twin has another correlation than the world."""
        return self.correlation_scale is not None or self.correlation_seed is not None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        pairs = [list(pair) for pair in self.forbidden_pairs]
        return {**super().to_dict(), "forbidden_pairs": pairs or ()}


def _pairs(given: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of two different features, the lesser first, no pair twice."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"forbidden_pairs must be a list of pairs of features, got {given!r}")
    found: dict[tuple[int, int], None] = {}
    for place, pair in enumerate(given):
        name = f"forbidden_pairs[{place}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{name} must be two features, got {pair!r}")
        first, second = sorted(as_int(name, feature, low=0) for feature in pair)
        if first == second:
            raise ValueError(f"{name} must be two different features, got {pair!r}")
        if (first, second) in found:
            raise ValueError(f"forbidden_pairs must hold a pair once, got {pair!r} twice")
        found[first, second] = None
    return tuple(found)
