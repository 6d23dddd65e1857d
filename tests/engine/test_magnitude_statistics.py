"""A million draws have the closed forms' means, deviations, quantiles and correlations.

The bounds are 5 standard errors, from the closed forms themselves; seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kendalltau, norm, rankdata

import synthkern as synthetic

pytestmark = pytest.mark.many_samples

COUNT, SIGMAS = 1_000_000, 5
MEAN, STD = 2.0, 0.8
LEVELS = (1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-4)

_VARIANCE = math.log(1 + (STD / MEAN) ** 2)
_ALPHA = 1 + math.sqrt(1 + (MEAN / STD) ** 2)
_LEAST = MEAN * (_ALPHA - 1) / _ALPHA

#: Quantiles of the closed forms.
QUANTILES: dict[str, Callable[[float], float]] = {
    "normal": lambda p: MEAN + STD * norm.ppf(p),
    "lognormal": lambda p: MEAN * math.exp(math.sqrt(_VARIANCE) * norm.ppf(p) - _VARIANCE / 2),
    "exponential": lambda p: MEAN - STD - STD * math.log1p(-p),
    "pareto": lambda p: _LEAST * (1 - p) ** (-1 / _ALPHA),
}
#: Fourth central moments over squared variances; Pareto's alpha is 3.7, which has none.
KURTOSIS = {
    "normal": 3.0,
    "lognormal": sum(
        c * math.exp(k * _VARIANCE) for k, c in ((4, 1.0), (3, 2.0), (2, 3.0), (0, -3.0))
    ),
    "exponential": 9.0,
}


def draw(
    name: str, correlation: float, seed: int, mean: float = MEAN, std: float = STD
) -> np.ndarray:
    """Magnitudes [COUNT, 2] float64 of two features that always fire."""
    world = synthetic.ActivationGenerator(
        2,
        1.0,
        std,
        mean,
        magnitude_distribution={"name": name, "correlation": correlation},
    )
    return world.sample(COUNT, seed=seed).double().numpy()


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("name", QUANTILES)
def test_mean_deviation_and_quantiles(name: str, correlation: float) -> None:
    values = draw(name, correlation, seed=41)
    assert values.min() > 0 or name == "normal"
    for x in values.T:
        # The normal is clipped at 0, where 2.5 sigma below the mean 0.6% of it is.
        mean, deviation = _clipped() if name == "normal" else (MEAN, STD)
        assert abs(x.mean() - mean) < SIGMAS * STD / math.sqrt(COUNT)
        if name in KURTOSIS:
            error = SIGMAS * math.sqrt((KURTOSIS[name] - 1) / COUNT)
            assert abs(x.var() / deviation**2 - 1) < error
        for p in LEVELS:
            below = float((x <= QUANTILES[name](p)).mean())
            if name == "normal" and QUANTILES[name](p) < 0:
                assert below == 0  # what is clipped is 0, and not below
                continue
            assert abs(below - p) < SIGMAS * math.sqrt(p * (1 - p) / COUNT), p


def _clipped() -> tuple[float, float]:
    """Mean and deviation of the clipped normal."""
    mean, square = (
        quad(lambda z, k=k: (MEAN + STD * z) ** k * norm.pdf(z), -MEAN / STD, 12)[0] for k in (1, 2)
    )
    return mean, math.sqrt(square - mean**2)


@pytest.mark.parametrize("name", QUANTILES)
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_rank_correlations_are_those_of_the_normals(name: str, correlation: float) -> None:
    """Spearman's 6 / pi * asin(c / 2) and Kendall's 2 / pi * asin(c), whatever the magnitudes."""
    values = draw(name, correlation, seed=42, std=0.4)  # the normal's clipping is 5 sigma away
    ranks = np.stack([rankdata(x) for x in values.T])
    spearman = float(np.corrcoef(ranks)[0, 1])
    # Its standard error is at most that of independent ones.
    assert abs(spearman - 6 / math.pi * math.asin(correlation / 2)) < SIGMAS / math.sqrt(COUNT)
    few = values[: COUNT // 10]
    tau = kendalltau(few[:, 0], few[:, 1]).statistic
    # Of independent ones 2 / 3 / sqrt(n) (Kendall), the greatest of all.
    assert abs(tau - 2 / math.pi * math.asin(correlation)) < SIGMAS * 2 / 3 / math.sqrt(len(few))


@pytest.mark.parametrize("correlation", [0.3, 0.9])
def test_lognormal_and_normal_correlations_have_their_closed_forms(correlation: float) -> None:
    values = draw("lognormal", correlation, seed=43)
    logs = float(np.corrcoef(np.log(values).T)[0, 1])
    assert abs(logs - correlation) < SIGMAS * (1 - correlation**2) / math.sqrt(COUNT)
    expected = math.expm1(correlation * _VARIANCE) / math.expm1(_VARIANCE)
    x, y = ((values - MEAN) / STD).T
    error = SIGMAS * float((x * y).std()) / math.sqrt(COUNT)
    assert abs(float((x * y).mean()) - expected) < error
    normals = draw("normal", correlation, seed=44, std=0.3)
    found = float(np.corrcoef(normals.T)[0, 1])
    assert abs(found - correlation) < SIGMAS * (1 - correlation**2) / math.sqrt(COUNT)


def test_a_given_alpha_has_its_tail() -> None:
    """With alpha = 1.5 there is no variance; how often the tail is passed is known all the same."""
    world = synthetic.ActivationGenerator(
        1, 1.0, 0.0, 3.0, magnitude_distribution=synthetic.ParetoMagnitudeDistribution(1.5)
    )
    x = world.sample(COUNT, seed=45).numpy()
    assert x.min() >= np.float32(1 - 1e-6)  # 3 * (1.5 - 1) / 1.5
    for times in (2, 10, 100, 1000):
        rate = times**-1.5
        assert abs((x > times).mean() - rate) < SIGMAS * math.sqrt(rate * (1 - rate) / COUNT)


@pytest.mark.parametrize("name", QUANTILES)
def test_correlated_are_features_of_a_sample_and_no_samples(name: str) -> None:
    """One sample and the next share nothing; and firing, which shares no word, is as before."""
    p = 0.3
    world = synthetic.ActivationGenerator(
        3,
        p,
        0.4,
        MEAN,
        magnitude_distribution={"name": name, "correlation": 0.8},
    )
    values = world.sample(COUNT, seed=46).numpy()
    fires = values > 0
    together = fires[:, 0] & fires[:, 1]
    assert abs(together.mean() - p * p) < SIGMAS * math.sqrt(p * p * (1 - p * p) / COUNT)
    ranks = [rankdata(values[together, j]) for j in (0, 1)]
    found, number = float(np.corrcoef(ranks)[0, 1]), int(together.sum())
    assert abs(found - 6 / math.pi * math.asin(0.4)) < SIGMAS / math.sqrt(number)
    first = values[:-1, 0][fires[:-1, 0] & fires[1:, 1]]
    later = values[1:, 1][fires[:-1, 0] & fires[1:, 1]]
    lagged = float(np.corrcoef(rankdata(first), rankdata(later))[0, 1])
    assert abs(lagged) < SIGMAS / math.sqrt(len(first))


def test_two_seeds_and_the_sample_s_own_normal_differ() -> None:
    """With correlation 1 all features of a sample are one number, another in the next."""
    world = synthetic.ActivationGenerator(
        3,
        1.0,
        0.5,
        1.0,
        magnitude_distribution={"name": "lognormal", "correlation": 1.0},
    )
    values = world.sample(1000, seed=1)
    assert torch.equal(values, values[:, :1].expand(-1, 3))
    assert values[:, 0].unique().numel() > 990
    assert not torch.equal(values, world.sample(1000, seed=2))
