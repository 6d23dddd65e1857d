"""Noise in hidden activations: how much, and of which covariance."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern._checks import as_float, as_int, plain_fields
from synthkern.world.registry import PlainConfig

#: Decibels of a ratio of variances that float32 numbers can have.
_MOST_DB = 300.0


@dataclass
class NoiseConfig(PlainConfig):
    """Normal noise that is added to hidden activations [B, D].

    Its total variance, the trace of its covariance, is D * std**2, whatever the rank: a share of
    it is that of ``rank`` random directions, the same in every sample, and the rest is isotropic.
    Of a world's several views (:class:`ViewsConfig`) the first, view 0, has it, and no other.

    Attributes:
        std: root of the noise's mean variance a component, at least 0.
        snr_db: the ratio of signal to noise instead: 10 log10 of the total variance of the
            noise-free hidden activations over that of the noise. Exactly one of the two is given.
        rank: r, of the low-rank part of the covariance; 0 for isotropic noise, at most D - 1.
        low_rank_share: of the total variance in that part, in (0, 1]; unused where rank is 0.

    Raises:
        ValueError: for a number out of range, or where not exactly one of std and snr_db is given.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(
        ...     num_features=16, hidden_dim=4, noise=synthetic.NoiseConfig(snr_db=10), seed=0
        ... )
        >>> model = synthetic.SyntheticModel(cfg)
        >>> noisy = model.sample(2, seed=1)
        >>> noise_free = model.sample(2, seed=1, noise=False)
        >>> ratio = synthetic.signal_variance(model).value / model.feature_dict.noise.total_variance
        >>> round(ratio, 2)
        10.0
    """

    _called = "noise"

    std: float | None = None
    snr_db: float | None = None
    rank: int = 0
    low_rank_share: float = 0.5

    def __post_init__(self) -> None:
        plain_fields(self)
        if (self.std is None) == (self.snr_db is None):
            raise ValueError(
                "noise must have exactly one of std and snr_db, "
                f"got std = {self.std!r} and snr_db = {self.snr_db!r}"
            )
        if self.std is not None:
            as_float("noise.std", self.std, low=0)
        else:
            as_float("noise.snr_db", self.snr_db, low=-_MOST_DB, high=_MOST_DB)
        as_int("noise.rank", self.rank, low=0)
        as_float("noise.low_rank_share", self.low_rank_share, low=0, high=1, open_low=True)
