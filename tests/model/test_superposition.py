"""Overlap of feature vectors, against every cosine at once."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import synthkern as synthetic

NAN, INF = float("nan"), float("inf")


def dictionary(n: int, d: int, dtype: torch.dtype = torch.float32) -> synthetic.FeatureDictionary:
    """A dictionary of vectors that are no unit vectors."""
    feature_dict = synthetic.FeatureDictionary(n, d, initializer=None, seed=n).to(dtype)
    with torch.no_grad():
        feature_dict.feature_vectors *= torch.linspace(0.5, 2, n, dtype=dtype)[:, None]
    return feature_dict


def others(feature_dict: synthetic.FeatureDictionary) -> torch.Tensor:
    """|cosine| of every vector with every other in float64: [N, N - 1]."""
    unit = torch.nn.functional.normalize(feature_dict.feature_vectors.detach().double(), dim=1)
    n = unit.shape[0]
    return (unit @ unit.T).abs()[~torch.eye(n, dtype=torch.bool)].reshape(n, n - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (30, 8), (101, 16)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 1024])
def test_statistics_are_those_of_all_cosines(
    shape: tuple[int, int], dtype: torch.dtype, batch_size: int
) -> None:
    percentiles = [0, 25, 50, 95, 99, 100]
    feature_dict = dictionary(*shape, dtype)
    stats = synthetic.compute_superposition_stats(
        feature_dict, batch_size=batch_size, percentiles=percentiles
    )
    cosines = others(feature_dict)
    # Sums of d products of numbers below 1, and an interpolation.
    tolerance = (shape[1] + 4) * torch.finfo(dtype).eps
    close = {"rtol": 0, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(stats.max_abs_cos_sims, cosines.amax(dim=1), **close)
    assert list(stats.percentile_abs_cos_sims) == percentiles
    for percentile, found in stats.percentile_abs_cos_sims.items():
        expected = torch.quantile(cosines, percentile / 100, dim=1)
        torch.testing.assert_close(found, expected, **close)
        mean = stats.mean_percentile_abs_cos_sim[percentile]
        assert mean == pytest.approx(float(expected.mean()), abs=tolerance)
    assert stats.mean_max_abs_cos_sim == pytest.approx(
        float(cosines.amax(dim=1).mean()), abs=tolerance
    )
    assert stats.mean_abs_cos_sim == pytest.approx(float(cosines.mean()), abs=tolerance)
    assert (stats.num_features, stats.hidden_dim) == shape


def test_by_hand() -> None:
    feature_dict = synthetic.FeatureDictionary(3, 2, initializer=None, seed=0)
    feature_dict.feature_vectors.data = torch.tensor([[2.0, 0.0], [0.0, -1.0], [-3.0, 4.0]])
    stats = synthetic.compute_superposition_stats(feature_dict, percentiles=[50])
    # |cosines|: 0 between the first two, and 0.6 and 0.8 with the third.
    expected = {"max": [0.6, 0.8, 0.8], "median": [0.3, 0.4, 0.7]}
    close = {"rtol": 4 * torch.finfo(torch.float32).eps, "atol": 0}
    torch.testing.assert_close(stats.max_abs_cos_sims, torch.tensor(expected["max"]), **close)
    median = stats.percentile_abs_cos_sims[50]
    torch.testing.assert_close(median, torch.tensor(expected["median"]), **close)
    assert stats.mean_abs_cos_sim == pytest.approx(1.4 / 3, rel=1e-6)
    assert stats.mean_max_abs_cos_sim == pytest.approx(2.2 / 3, rel=1e-6)
    assert stats.mean_percentile_abs_cos_sim == {50: pytest.approx(1.4 / 3, rel=1e-6)}


def test_a_copy_of_a_vector_counts_though_the_vector_itself_does_not() -> None:
    feature_dict = synthetic.FeatureDictionary(3, 3, initializer=None, seed=0)
    feature_dict.feature_vectors.data = torch.eye(3)[[0, 1, 1]]
    stats = synthetic.compute_superposition_stats(feature_dict, percentiles=[100])
    assert stats.max_abs_cos_sims.tolist() == [0.0, 1.0, 1.0]


def test_defaults() -> None:
    stats = synthetic.compute_superposition_stats(dictionary(5, 3))
    assert list(stats.percentile_abs_cos_sims) == [95, 99]
    assert not stats.max_abs_cos_sims.requires_grad
    none = synthetic.compute_superposition_stats(dictionary(5, 3), percentiles=[], device="cpu")
    assert none.percentile_abs_cos_sims == {}
    assert torch.equal(none.max_abs_cos_sims, stats.max_abs_cos_sims)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must .*got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must .*got 2.0"),
        ({"percentiles": [50, 101]}, ValueError, "percentiles must .*got 101.0"),
        ({"percentiles": [-1]}, ValueError, "percentiles must .*got -1.0"),
        ({"percentiles": [NAN]}, ValueError, "percentiles must .*got nan"),
        ({"percentiles": [INF]}, ValueError, "percentiles must .*got inf"),
        ({"percentiles": ["95"]}, TypeError, "percentiles must .*got '95'"),
    ],
)
def test_bad_arguments_are_refused(
    kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        synthetic.compute_superposition_stats(dictionary(3, 2), **kwargs)


def test_a_single_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^feature_dictionary must have two .*, got 1$"):
        synthetic.compute_superposition_stats(dictionary(1, 2))


def test_cosine_similarities() -> None:
    a = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    cosines = synthetic.cosine_similarities(a, b)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(cosines, expected, rtol=3e-7, atol=0)
    assert torch.equal(synthetic.cosine_similarities(a), synthetic.cosine_similarities(a, a))
    assert synthetic.cosine_similarities(torch.zeros(0, 2), b).shape == (0, 2)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (3,)), ((1, 2, 3), (2, 3))]
)
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    shown = re.escape(f"got {list(a)} and {list(b)}")
    with pytest.raises(ValueError, match=rf"^mat1 and mat2 must have shapes .*{shown}$"):
        synthetic.cosine_similarities(torch.ones(a), torch.ones(b))
