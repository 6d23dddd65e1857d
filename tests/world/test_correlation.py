"""Correlations: given pairs, random ones, repair, low rank, and their statistics."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import synthkern as synthetic

NAN, INF = float("nan"), float("inf")
EPS = torch.finfo(torch.float32).eps

from_pairs = synthetic.create_correlation_matrix_from_correlations
random_pairs = synthetic.generate_random_correlations
random_matrix = synthetic.generate_random_correlation_matrix
low_rank = synthetic.generate_random_low_rank_correlation_matrix


def full(correlation: synthetic.LowRankCorrelationMatrix) -> torch.Tensor:
    factor, diag = correlation
    return factor.double() @ factor.double().T + diag.double().diag()


def test_given_pairs_by_hand() -> None:
    matrix = from_pairs(3, {(0, 1): 0.5, (2, 0): -0.25}, default_correlation=0.125)
    expected = [[1.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 1.0]]
    assert matrix.dtype == torch.float32
    assert torch.equal(matrix, torch.tensor(expected))


@pytest.mark.parametrize("correlations", [None, {}])
def test_no_pairs_give_the_default_everywhere(correlations: Any) -> None:
    assert torch.equal(from_pairs(4, correlations), torch.eye(4))
    expected = torch.full((4, 4), 0.5).fill_diagonal_(1.0)
    assert torch.equal(from_pairs(4, correlations, 0.5), expected)
    assert torch.equal(from_pairs(1, correlations, 0.5), torch.ones(1, 1))


def test_a_semi_definite_matrix_stays_as_it_is() -> None:
    assert torch.equal(from_pairs(3, default_correlation=1.0), torch.ones(3, 3))
    assert torch.equal(from_pairs(3, default_correlation=-0.5).diagonal(), torch.ones(3))
    assert float(from_pairs(3, default_correlation=-0.5)[0, 1]) == -0.5


def test_repair_by_hand() -> None:
    # [[1, a, a], [a, 1, 0], [a, 0, 1]] has the eigenvalues 1 and 1 +- a sqrt(2); the one below 0
    # belongs to (1, -1/sqrt(2), -1/sqrt(2)) / sqrt(2). Raising it by d adds d v v^T.
    a = 0.8
    d = 1e-6 - (1 - a * math.sqrt(2))
    first, others = 1 + d / 2, 1 + d / 4
    near = (a - d / (2 * math.sqrt(2))) / math.sqrt(first * others)
    far = (d / 4) / others
    matrix = from_pairs(3, {(0, 1): a, (0, 2): a})
    expected = torch.tensor([[1.0, near, near], [near, 1.0, far], [near, far, 1.0]])
    # One rounding to float32 of numbers that float64 has to a few 1e-16.
    torch.testing.assert_close(matrix, expected, rtol=EPS, atol=0)
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), torch.ones(3))


def test_pairs_may_be_given_both_ways_round_if_they_agree() -> None:
    assert torch.equal(from_pairs(2, {(0, 1): 0.5, (1, 0): 0.5}), from_pairs(2, {(1, 0): 0.5}))
    with pytest.raises(ValueError, match=r"^correlations must agree, got 0\.5 and -0\.5 for"):
        from_pairs(2, {(0, 1): 0.5, (1, 0): -0.5})


@pytest.mark.parametrize("value", [-1.5, 1.5, NAN, INF])
def test_correlations_outside_their_range_are_refused(value: float) -> None:
    shown = re.escape(repr(value))
    with pytest.raises(ValueError, match=rf"^correlations\[\(0, 1\)\] must .*got {shown}$"):
        from_pairs(3, {(0, 1): value})
    with pytest.raises(ValueError, match=rf"^default_correlation must .*got {shown}$"):
        from_pairs(3, default_correlation=value)


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        ((0, 3), ValueError, r"^correlations index must .*<= 2, got 3$"),
        ((-1, 0), ValueError, r"^correlations index must .*got -1$"),
        ((0, 1.0), TypeError, r"^correlations index must .*got 1\.0$"),
        ((1, 1), ValueError, r"^correlations must be of two different features, got \(1, 1\)$"),
    ],
)
def test_bad_pairs_are_refused(pair: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_pairs(3, {pair: 0.1})


def test_random_pairs_have_exact_shares() -> None:
    correlations = random_pairs(
        21,
        positive_ratio=0.25,
        uncorrelated_ratio=0.2,
        min_correlation_strength=0.3,
        max_correlation_strength=0.6,
        seed=1,
    )
    # 210 pairs, of which 42 stay uncorrelated; 42 of the others are positive.
    assert len(correlations) == 168
    assert sum(value > 0 for value in correlations.values()) == 42
    assert all(0.3 <= abs(value) <= 0.6 for value in correlations.values())
    assert set(correlations) < set(itertools.combinations(range(21), 2))
    # Uniform strengths: the mean of 168 has standard deviation 0.3 / sqrt(12 * 168); 5 sigma.
    mean = sum(abs(value) for value in correlations.values()) / 168
    assert abs(mean - 0.45) < 5 * 0.3 / math.sqrt(12 * 168)


def test_random_pairs_leave_out_and_sign_any_pair() -> None:
    drawn = [random_pairs(4, 0.5, 0.5, seed=seed) for seed in range(400)]
    # 6 pairs: 3 correlated, 1 of them positive. A pair is positive with probability 1/6 and
    # negative with 2/6; 5 sigma of binomial counts.
    for pair in itertools.combinations(range(4), 2):
        positive = sum(correlations.get(pair, 0) > 0 for correlations in drawn)
        negative = sum(correlations.get(pair, 0) < 0 for correlations in drawn)
        assert abs(positive - 400 / 6) < 5 * math.sqrt(400 * 1 / 6 * 5 / 6)
        assert abs(negative - 400 / 3) < 5 * math.sqrt(400 * 1 / 3 * 2 / 3)


@pytest.mark.parametrize(("ratio", "expected"), [(0, 10), (1, 0), (0.5, 5)])
def test_random_pairs_at_the_ends_of_their_ranges(ratio: float, expected: int) -> None:
    correlations = random_pairs(5, 1.0, ratio, 0.5, 0.5, seed=2)
    assert list(correlations.values()) == [0.5] * expected
    assert random_pairs(1, seed=2) == {}


@pytest.mark.parametrize("dtype", [torch.float32, "float64", torch.float16])
@pytest.mark.parametrize(("size", "strength"), [(6, 0.1), (40, 0.9)])
def test_random_matrix_draws_every_pair_and_is_repaired(
    size: int, strength: float, dtype: torch.dtype | str
) -> None:
    # The larger one is not positive semi-definite before its repair.
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    matrix = random_matrix(size, 0.75, 0.25, 0.05, strength, seed=3, dtype=dtype)
    assert matrix.dtype == kind
    generator = torch.Generator().manual_seed(3)
    pairs = list(itertools.combinations(range(size), 2))
    correlated, positive, share = (
        torch.rand(len(pairs), generator=generator, dtype=drawn).tolist()
        for drawn in (torch.float32, torch.float32, kind)
    )
    given = {
        pair: (1 if above < 0.75 else -1) * (0.05 + (strength - 0.05) * part)
        for pair, drawn, above, part in zip(pairs, correlated, positive, share, strict=True)
        if drawn >= 0.25
    }
    # Two roundings of each strength in the dtype; the repair divides by diagonals of about 1.
    eps = max(EPS, torch.finfo(kind).eps)
    torch.testing.assert_close(matrix.float(), from_pairs(size, given), rtol=0, atol=8 * eps)
    assert torch.equal(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix.double())[0]) > -size * eps


def test_random_matrix_has_shares_as_probabilities() -> None:
    matrix = random_matrix(200, 0.25, 0.9, 0.001, 0.002, seed=4)
    i, j = torch.triu_indices(200, 200, offset=1)
    rho = matrix[i, j]
    # 5 sigma of binomial counts of 19,900 pairs.
    drawn = int((rho != 0).sum())
    assert abs(drawn - 1990) < 5 * math.sqrt(1990 * 0.9)
    assert abs(int((rho > 0).sum()) - drawn / 4) < 5 * math.sqrt(drawn * 3 / 16)


def test_no_features_give_empty_results() -> None:
    for matrix in (from_pairs(0), random_matrix(0)):
        assert matrix.shape == (0, 0)
    assert random_pairs(0) == {}
    factor, diag = low_rank(0, 3)
    assert (factor.shape, diag.shape) == ((0, 3), (0,))


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: torch.tensor(list(random_pairs(9, seed=seed).values())),
        lambda seed: random_matrix(9, seed=seed),
        lambda seed: low_rank(9, 3, seed=seed).correlation_factor,
    ],
    ids=["pairs", "matrix", "low rank"],
)
def test_seeds_and_the_global_generator(draw: Callable[[int | None], torch.Tensor]) -> None:
    state = torch.get_rng_state()
    seeded = draw(5)
    assert torch.equal(seeded, draw(5))
    assert not torch.equal(seeded, draw(6))
    assert torch.equal(torch.get_rng_state(), state)
    unseeded = draw(None)
    assert not torch.equal(unseeded, draw(None))
    torch.set_rng_state(state)
    assert torch.equal(unseeded, draw(None))


def test_low_rank_is_a_correlation_with_normal_loadings() -> None:
    n, rank, scale = 2000, 25, 0.1
    correlation = low_rank(n, rank, scale, seed=1)
    assert isinstance(correlation, synthetic.LowRankCorrelationMatrix)
    factor, diag = correlation
    assert factor.shape == (n, rank)
    assert diag.shape == (n,)
    # The mean square of m normals of deviation s has the deviation s**2 sqrt(2 / m); 5 sigma.
    square = float(factor.double().square().mean())
    assert abs(square - scale**2) < 5 * scale**2 * math.sqrt(2 / factor.numel())
    assert abs(float(factor.double().mean())) < 5 * scale / math.sqrt(factor.numel())
    # A sum of 25 squares in float32, subtracted from 1.
    share = factor.double().square().sum(dim=1)
    torch.testing.assert_close(diag.double(), 1 - share, rtol=0, atol=2 * EPS)


def test_low_rank_rows_that_leave_too_little_are_scaled_down() -> None:
    plain = torch.randn(50, 10, generator=torch.Generator().manual_seed(4)) * 0.3
    share = plain.square().sum(dim=1)
    count = int((share > 0.99).sum())
    assert 0 < count < 50
    with pytest.warns(UserWarning, match=rf"^{count} of 50 rows .*correlation_diag") as caught:
        factor, diag = low_rank(50, 10, 0.3, seed=4)
    assert caught[0].filename == __file__
    scaled = share > 0.99
    assert torch.equal(factor[~scaled], plain[~scaled])
    # One rounding of each scaled loading, on row sums of 0.99.
    torch.testing.assert_close(diag[scaled], torch.full((count,), 0.01), rtol=0, atol=2 * EPS)
    assert bool((diag[~scaled] >= 0.01 - EPS).all())
    expected = plain[scaled] * (0.99 / share[scaled]).sqrt()[:, None]
    # A few roundings of the scale and of the product.
    torch.testing.assert_close(factor[scaled], expected, rtol=8 * EPS, atol=0)
    assert synthetic.ActivationGenerator(50, 0.5, correlation_matrix=(factor, diag)).is_fused


def test_low_rank_without_correlation_and_in_another_dtype() -> None:
    factor, diag = low_rank(3, 2, 0, seed=1)
    assert torch.equal(factor, torch.zeros(3, 2))
    assert torch.equal(diag, torch.ones(3))
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        factor, diag = low_rank(40, 2, seed=1, dtype=dtype)
        assert (factor.dtype, diag.dtype) == (dtype, dtype)
        # torch draws other numbers in another dtype.
        plain = torch.randn(40, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))
        assert torch.equal(factor, plain * 0.075)
        off = (full(synthetic.LowRankCorrelationMatrix(factor, diag)).diagonal() - 1).abs()
        assert float(off.max()) <= torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("positive_ratio", [-0.1, 1.1, NAN, INF]),
        ("uncorrelated_ratio", [-0.1, 1.1, NAN, -INF]),
        ("min_correlation_strength", [-0.1, 1.1, NAN, INF]),
        ("max_correlation_strength", [0.05, 1.1, NAN, INF]),
        ("num_features", [-1]),
        ("seed", [-1, 2**64]),
    ],
)
@pytest.mark.parametrize("draw", [random_pairs, random_matrix])
def test_random_correlations_refuse(draw: Callable[..., Any], name: str, bad: list[Any]) -> None:
    for value in bad:
        with pytest.raises(ValueError, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
            draw(**{"num_features": 5, name: value})
    with pytest.raises(TypeError, match=rf"^{name} must .*got '1'$"):
        draw(**{"num_features": 5, name: "1"})


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("num_features", [-1], ValueError),
        ("num_features", [1.5], TypeError),
        ("rank", [0], ValueError),
        ("rank", [2.0], TypeError),
        ("correlation_scale", [-0.1, NAN, INF], ValueError),
        ("correlation_scale", ["1"], TypeError),
        ("seed", [-1], ValueError),
        ("dtype", ["int32"], ValueError),
    ],
)
def test_low_rank_refuses(name: str, values: list[Any], error: type[Exception]) -> None:
    for value in values:
        with pytest.raises(error, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
            low_rank(**{"num_features": 5, "rank": 2, name: value})
