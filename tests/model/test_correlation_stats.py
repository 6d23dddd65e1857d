"""Statistics of correlations: by hand, and low rank against full."""

from __future__ import annotations

import math

import pytest
import torch

import synthkern as synthetic

LowRank = synthetic.LowRankCorrelationMatrix
of_full = synthetic.compute_correlation_matrix_stats
of_low_rank = synthetic.compute_low_rank_correlation_matrix_stats


def test_by_hand() -> None:
    matrix = torch.tensor([[1.0, 0.5, -0.25], [0.5, 1.0, 0.125], [-0.25, 0.125, 1.0]])
    stats = of_full(matrix)
    # Means over the pairs 0.5, -0.25, 0.125, which are exact in float32.
    assert stats.num_features == 3
    assert stats.mean_correlation == pytest.approx(0.125, rel=1e-12)
    assert stats.rms_correlation == pytest.approx(
        math.sqrt((0.25 + 0.0625 + 0.015625) / 3), rel=1e-12
    )


def test_a_single_feature_has_no_pairs() -> None:
    nothing = synthetic.CorrelationMatrixStats(0.0, 0.0, 1)
    assert of_full(torch.ones(1, 1)) == nothing
    assert of_low_rank(LowRank(torch.full((1, 3), 0.5), torch.tensor([0.25]))) == nothing


@pytest.mark.parametrize(("n", "rank"), [(2, 1), (7, 50), (200, 25)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_rank_equals_full(n: int, rank: int, dtype: torch.dtype) -> None:
    correlation = synthetic.generate_random_low_rank_correlation_matrix(
        n, rank, 0.1, seed=n, dtype=dtype
    )
    factor, diag = (part.double() for part in correlation)
    matrix = factor @ factor.T + diag.diag()
    low, full = of_low_rank(correlation), of_full(matrix)
    assert low.num_features == full.num_features == n
    # Both are differences of float64 sums of the order of n.
    assert low.rms_correlation == pytest.approx(full.rms_correlation, rel=1e-10)
    assert low.mean_correlation == pytest.approx(full.mean_correlation, rel=1e-10, abs=1e-13)
    off = matrix[~torch.eye(n, dtype=torch.bool)]
    assert full.rms_correlation == pytest.approx(float(off.square().mean().sqrt()), rel=1e-10)
    assert full.mean_correlation == pytest.approx(float(off.mean()), rel=1e-10, abs=1e-13)


def test_low_rank_forms_no_full_matrix() -> None:
    # A full matrix would take 320 GB. Every correlation is +-0.25, half of the signs negative.
    n = 200_000
    factor = torch.full((n, 1), 0.5)
    factor[: n // 2] *= -1
    stats = of_low_rank(LowRank(factor, torch.full((n,), 0.75)))
    assert stats.rms_correlation == pytest.approx(0.25, rel=1e-9)
    # Pairs of a half with itself less pairs across: -n / 2 of n (n - 1) / 2.
    assert stats.mean_correlation == pytest.approx(-0.25 / (n - 1), rel=1e-6)


def test_independent_features_have_none() -> None:
    full = of_full(torch.eye(5))
    assert full.mean_correlation == 0.0
    # The root of a difference of float64 sums near 5.
    assert full.rms_correlation == pytest.approx(0.0, abs=1e-7)
    independent = LowRank(torch.zeros(5, 2), torch.ones(5))
    assert of_low_rank(independent) == synthetic.CorrelationMatrixStats(0.0, 0.0, 5)


@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 0), (2, 2, 2)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    shown = rf"got \[{', '.join(map(str, shape))}\]$"
    with pytest.raises(ValueError, match=rf"^correlation_matrix must have shape .*{shown}"):
        of_full(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4,), (0, 3), (2, 2, 2)])
def test_a_wrong_factor_is_refused(shape: tuple[int, ...]) -> None:
    shown = rf"got \[{', '.join(map(str, shape))}\]$"
    with pytest.raises(ValueError, match=rf"^correlation_factor must have shape .*{shown}"):
        of_low_rank(LowRank(torch.zeros(shape), torch.ones(4)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    bad = torch.eye(3)
    bad[1, 2] = value
    with pytest.raises(ValueError, match=rf"^correlation_matrix must be finite, got {value} at"):
        of_full(bad)
    with pytest.raises(ValueError, match=rf"^correlation_factor must be finite, got {value} at"):
        of_low_rank(LowRank(bad, torch.ones(3)))
