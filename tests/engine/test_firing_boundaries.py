"""Where a feature begins to fire, to the last bit: what a sampler may skip, it must not miss.

Thresholds are put exactly at what a sample's own words give, so that no feature fires, and one
step further, so that every feature does. A screen whose bound is too tight by one unit, a sum in
another order or a comparison that is not strict shows here, and hardly anywhere else.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from synthkern import ActivationGenerator, engine
from synthkern.plan import Plan
from synthkern.stream import coarse_bytes, feature_words, normal
from synthkern.stream.words import factor_normals, sample_indices

pytestmark = [
    pytest.mark.usefixtures("backend", "instruction_set"),
    pytest.mark.many_samples,
]

N, SEED, START = 301, 0xABCDEF0123456789, 2**32 - 20
CPU = torch.device("cpu")


def _words(sample: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every feature's byte and first word in one sample."""
    index = sample_indices(START + sample, 1, CPU)
    return coarse_bytes(N, index, SEED)[0], feature_words(torch.arange(N), index, SEED)[0][0]


def _firing(plan: Plan, sample: int, count: int) -> int:
    """How many features fire in a sample that is drawn as the last of ``count``."""
    first = START + sample - count + 1
    drawn = engine.sample(plan, seed=SEED, start=first, count=count).features
    assert drawn is not None
    return drawn[-1].nnz


# Alone, in a group of four, and in whatever follows a group.
@pytest.mark.parametrize("count", [1, 4, 7])
def test_independent_features_fire_below_their_bits(count: int) -> None:
    plan = ActivationGenerator(N, 0.5).plan
    for sample in range(10, 26):
        byte, word = _words(sample)
        bits = (byte << 32) + word
        at = dataclasses.replace(plan, fire_below=bits)
        above = dataclasses.replace(plan, fire_below=bits + 1)
        assert _firing(at, sample, count) == 0
        assert _firing(above, sample, count) == N


def _loadings(kind: str, rank: int) -> torch.Tensor:
    """Rows of a length below 1, evenly spread, in one coordinate, or tiny and large ones mixed."""
    rng = np.random.default_rng(rank)
    factor = rng.standard_normal((N, rank))
    if kind == "one":
        factor *= np.eye(rank)[rng.integers(0, rank, N)]
        factor[factor != 0] = 1
    factor /= np.sqrt((factor**2).sum(axis=1, keepdims=True))
    share = {"weak": 0.1, "strong": 0.999, "one": 0.5}.get(kind)
    length = np.sqrt(share if share else rng.choice([1e-8, 1e-3, 0.3, 0.9999], (N, 1)))
    return torch.from_numpy(factor * length)


def _in_lanes(row: list[np.float32], factor: list[np.float32]) -> np.float32:
    """A product as the stream adds it up, one float32 operation at a time."""
    s = [np.float32(0)] * 8
    for k, (a, b) in enumerate(zip(row, factor, strict=True)):
        s[k % 8] = s[k % 8] + a * b
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


def _copula(plan: Plan, sample: int) -> torch.Tensor:
    """What is compared with the threshold: [N]."""
    byte, word = _words(sample)
    factor = factor_normals(plan.rank, sample_indices(START + sample, 1, CPU), SEED)[0].numpy()
    rows = plan.factor[:, : plan.rank].numpy()
    noise = normal((byte << 24) + (word >> 8))
    products = torch.from_numpy(np.array([_in_lanes(list(row), list(factor)) for row in rows]))
    return products + plan.noise_scale * noise


def _check_copula(plan: Plan, samples: range, count: int) -> None:
    for sample in samples:
        value = _copula(plan, sample)
        at = dataclasses.replace(plan, threshold=value)
        lower = torch.nextafter(value, torch.tensor(-math.inf))
        below = dataclasses.replace(plan, threshold=lower)
        assert _firing(at, sample, count) == 0, sample
        assert _firing(below, sample, count) == N, sample


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", ["weak", "strong", "one", "mixed"])
@pytest.mark.parametrize("rank", [1, 2, 7, 8, 9, 25, 40])
def test_low_rank_features_fire_above_their_thresholds(rank: int, kind: str, count: int) -> None:
    factor = _loadings(kind, rank)
    pair = (factor, 1 - factor.square().sum(dim=1))
    plan = ActivationGenerator(N, 0.5, correlation_matrix=pair).plan
    _check_copula(plan, range(10, 14), count)


@pytest.mark.parametrize("count", [1, 4])
def test_features_of_a_full_matrix_fire_above_their_thresholds(count: int) -> None:
    factor = _loadings("strong", 20)
    matrix = factor @ factor.T
    plan = ActivationGenerator(N, 0.5, correlation_matrix=matrix.fill_diagonal_(1)).plan
    _check_copula(plan, range(10, 12), count)


def test_large_thresholds_do_not_wrap_around() -> None:
    """Beyond what a screen's integers hold, and infinite ones."""
    factor = _loadings("mixed", 9)
    pair = (factor, 1 - factor.square().sum(dim=1))
    plan = ActivationGenerator(N, 0.5, correlation_matrix=pair).plan
    for size in (7.5, 40.0, 1e6, 1e30, math.inf):
        for sign, firing in ((1, 0), (-1, N)):
            changed = dataclasses.replace(plan, threshold=torch.full((N,), sign * size))
            assert _firing(changed, 12, 4) == firing, sign * size


def test_probabilities_become_bits_and_thresholds() -> None:
    p = torch.tensor([0.0, 2.0**-42, 2.0**-41, 1e-12, 1e-5, 0.1, 0.5, 1 - 2.0**-24, 1.0])
    plan = ActivationGenerator(9, p).plan
    expected = [math.floor(Fraction(x) * 2**40 + Fraction(1, 2)) for x in p.tolist()]
    assert plan.fire_below.tolist() == expected
    assert expected[:3] == [0, 0, 1]
    assert expected[-1] == 2**40
    assert plan.threshold[[0, -1]].tolist() == [math.inf, -math.inf]
    many = torch.cat([p[1:-1], torch.linspace(0.001, 0.999, 999)])
    thresholds = ActivationGenerator(many.numel(), many).plan.threshold
    # Rounded to float32 once: half a unit in the last place, at most 2**-24 of the size.
    exact = -ndtri(many.double().numpy())
    np.testing.assert_allclose(thresholds.double().numpy(), exact, rtol=1.0001 * 2.0**-24)
