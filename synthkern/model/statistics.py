"""How much features overlap in the hidden space, and how much their firing is correlated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_float, as_int, check_finite, check_tensor
from synthkern.engine import product
from synthkern.model.draw_hidden import feature_vectors_of
from synthkern.world.correlation import LowRankCorrelationMatrix

#: Rows of a correlation matrix that are looked at together.
_ROWS = 1024


@dataclass
class CorrelationMatrixStats:
    """Off-diagonal correlations in two numbers.

    Attributes:
        rms_correlation: square root of the mean of their squares.
        mean_correlation: their mean.
        num_features: N.

    Example:
        >>> import synthkern as synthetic
        >>> matrix = synthetic.generate_random_correlation_matrix(3, seed=1)
        >>> stats = synthetic.compute_correlation_matrix_stats(matrix)
        >>> round(stats.mean_correlation, 3), round(stats.rms_correlation, 3)
        (-0.292, 0.361)
    """

    rms_correlation: float
    mean_correlation: float
    num_features: int


@dataclass
class SuperpositionStats:
    """|cosine| of each feature vector with the others.

    Attributes:
        max_abs_cos_sims: [N], the greatest.
        percentile_abs_cos_sims: by percentile, [N].
        mean_max_abs_cos_sim: mean of the greatest.
        mean_percentile_abs_cos_sim: by percentile, the mean.
        mean_abs_cos_sim: mean over all pairs.
        num_features: N.
        hidden_dim: D.

    Example:
        >>> import synthkern as synthetic
        >>> dictionary = synthetic.FeatureDictionary(32, 8, initializer=None, seed=0)
        >>> stats = synthetic.compute_superposition_stats(dictionary, percentiles=[50])
        >>> round(stats.mean_max_abs_cos_sim, 2), round(stats.mean_percentile_abs_cos_sim[50], 2)
        (0.72, 0.24)
        >>> stats.max_abs_cos_sims.shape
        torch.Size([32])
    """

    max_abs_cos_sims: torch.Tensor
    percentile_abs_cos_sims: dict[int, torch.Tensor]
    mean_max_abs_cos_sim: float
    mean_percentile_abs_cos_sim: dict[int, float]
    mean_abs_cos_sim: float
    num_features: int
    hidden_dim: int


def compute_correlation_matrix_stats(correlation_matrix: torch.Tensor) -> CorrelationMatrixStats:
    """Statistics of a full correlation matrix [N, N]; zeros where N is 1.

    Example:
        >>> import synthkern as synthetic
        >>> matrix = synthetic.create_correlation_matrix_from_correlations(3, {(0, 1): 0.5})
        >>> stats = synthetic.compute_correlation_matrix_stats(matrix)
        >>> round(stats.mean_correlation, 3), round(stats.rms_correlation, 3)
        (0.167, 0.289)
    """
    matrix = correlation_matrix
    check_tensor("correlation_matrix", matrix)
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"correlation_matrix must have shape [N, N], got {list(matrix.shape)}")
    check_finite("correlation_matrix", matrix)
    total = squares = torch.zeros((), dtype=torch.float64, device=matrix.device)
    for rows in torch.arange(len(matrix), device=matrix.device).split(_ROWS):
        # Without the diagonal rather than less it, which leaves rounding where all else is zero.
        others = matrix[rows].to(torch.float64)
        others[torch.arange(len(rows), device=matrix.device), rows] = 0
        total = total + others.sum()
        squares = squares + others.square_().sum()
    return _correlation_stats(total, squares, matrix.shape[0])


def compute_low_rank_correlation_matrix_stats(
    correlation_matrix: LowRankCorrelationMatrix,
) -> CorrelationMatrixStats:
    """The same of F F^T + diag(d), from F alone: nothing of size N x N is formed.

    Example:
        >>> import synthkern as synthetic
        >>> correlation = synthetic.generate_random_low_rank_correlation_matrix(64, 4, 0.2, seed=0)
        >>> stats = synthetic.compute_low_rank_correlation_matrix_stats(correlation)
        >>> round(stats.rms_correlation, 3)
        0.069
    """
    factor, _ = correlation_matrix
    check_tensor("correlation_factor", factor)
    if factor.dim() != 2 or factor.shape[0] == 0:
        raise ValueError(f"correlation_factor must have shape [N, r], got {list(factor.shape)}")
    check_finite("correlation_factor", factor)
    factor = factor.double()
    own = factor.square().sum(dim=1)
    total = factor.sum(dim=0).square().sum() - own.sum()
    squares = (factor.T @ factor).square().sum() - own.square().sum()
    return _correlation_stats(total, squares, factor.shape[0])


def _correlation_stats(
    total: torch.Tensor, squares: torch.Tensor, n: int
) -> CorrelationMatrixStats:
    pairs = max(1, n * (n - 1))
    # Differences of large sums: rounding can leave a zero a little below itself.
    mean_square = max(0.0, float(squares) / pairs)
    return CorrelationMatrixStats(mean_square**0.5, float(total) / pairs, n)


@torch.no_grad()
def compute_superposition_stats(
    feature_dictionary: Any,
    batch_size: int = 1024,
    device: torch.device | str | None = None,
    percentiles: Sequence[int] | None = None,
) -> SuperpositionStats:
    """Statistics of the |cosine|s between feature vectors, ``batch_size`` rows at a time.

    Args:
        feature_dictionary: with two features or more.
        batch_size: rows of the N x N cosines held at once.
        device: where to compute; that of the vectors where None.
        percentiles: whole numbers in [0, 100], linear between neighbours; [95, 99] where None.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> dictionary = synthetic.FeatureDictionary.from_vectors(vectors, torch.zeros(2))
        >>> synthetic.compute_superposition_stats(dictionary).max_abs_cos_sims
        tensor([0.6000, 0.8000, 0.8000])
    """
    rows = as_int("batch_size", batch_size, low=1)
    wanted = [95, 99] if percentiles is None else list(percentiles)
    for value in wanted:
        as_float("percentiles", value, low=0, high=100)
    vectors = feature_vectors_of("feature_dictionary", feature_dictionary)
    unit = torch.nn.functional.normalize(vectors.to(device or vectors.device), dim=1)
    n, d = unit.shape
    if n < 2:
        raise ValueError(f"feature_dictionary must have two features or more, got {n}")
    greatest: list[torch.Tensor] = []
    quantiles: list[torch.Tensor] = []
    total = 0.0
    shares = torch.tensor(wanted, dtype=torch.float64, device="cpu") / 100
    for first in range(0, n, rows):
        cosines = product.matmul(unit[first : first + rows], unit.T).abs()
        # A vector is not compared with itself: its own column goes last and is cut off.
        own = torch.arange(first, first + cosines.shape[0], device=unit.device)[:, None]
        cosines.scatter_(1, own, float("inf"))
        ordered = cosines.sort(dim=1).values[:, :-1]
        greatest.append(ordered[:, -1])
        quantiles.append(_interpolate(ordered, shares))
        total += float(ordered.sum(dtype=torch.float64))
    max_abs = torch.cat(greatest)
    by_percentile = dict(zip(wanted, torch.cat(quantiles).unbind(1), strict=True))
    return SuperpositionStats(
        max_abs_cos_sims=max_abs,
        percentile_abs_cos_sims=by_percentile,
        mean_max_abs_cos_sim=float(max_abs.mean(dtype=torch.float64)),
        mean_percentile_abs_cos_sim={
            key: float(value.mean(dtype=torch.float64)) for key, value in by_percentile.items()
        },
        mean_abs_cos_sim=total / (n * (n - 1)),
        num_features=n,
        hidden_dim=d,
    )


def cosine_similarities(mat1: torch.Tensor, mat2: torch.Tensor | None = None) -> torch.Tensor:
    """Cosines of the rows of two matrices, or of one with itself: [P, Q].

    A row of zeros has cosine 0 with everything.

    Args:
        mat1: [P, D].
        mat2: [Q, D]; mat1 itself where None.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> synthetic.cosine_similarities(torch.tensor([[2.0, 0.0], [3.0, 4.0]]))
        tensor([[1.0000, 0.6000],
                [0.6000, 1.0000]])
    """
    other = mat1 if mat2 is None else mat2
    check_tensor("mat1", mat1)
    check_tensor("mat2", other)
    if mat1.dim() != 2 or other.dim() != 2 or mat1.shape[1] != other.shape[1]:
        raise ValueError(
            f"mat1 and mat2 must have shapes [P, D] and [Q, D], got {list(mat1.shape)} and "
            f"{list(other.shape)}"
        )
    normalize = torch.nn.functional.normalize
    return product.matmul(normalize(mat1, dim=1), normalize(other, dim=1).T)


def _interpolate(ordered: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Quantiles [rows, shares] of rows in ascending order, linear between neighbours."""
    place = shares.to(ordered.device) * (ordered.shape[1] - 1)
    below = place.floor().long()
    above = place.ceil().long()
    weight = (place - below).to(ordered.dtype)
    return torch.lerp(ordered[:, below], ordered[:, above], weight)
