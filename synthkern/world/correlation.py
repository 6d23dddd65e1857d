"""Correlations of the normals behind the firing decisions (a Gaussian copula)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

import torch

from synthkern._checks import as_dtype, as_float, as_int, as_seed
from synthkern._warnings import warn
from synthkern.stream import fresh_seed
from synthkern.world.probabilities import generator_of, random_normals

#: Eigenvalues below this are raised to it where a matrix is not positive semi-definite.
_LEAST_EIGENVALUE = 1e-6
#: The least unique variance that a random low-rank correlation leaves a feature.
_LEAST_DIAG = 0.01


class LowRankCorrelationMatrix(NamedTuple):
    """A correlation matrix F F^T + diag(d).

    Attributes:
        correlation_factor: F, the loadings [N, r].
        correlation_diag: d, the unique variances [N], above 0.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> loadings = torch.tensor([[0.6], [0.8], [0.0]])
        >>> own = 1 - loadings.square().sum(dim=1)
        >>> correlation = synthetic.LowRankCorrelationMatrix(loadings, own)
        >>> loadings @ loadings.T + correlation.correlation_diag.diag()
        tensor([[1.0000, 0.4800, 0.0000],
                [0.4800, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    correlation_factor: torch.Tensor
    correlation_diag: torch.Tensor


def create_correlation_matrix_from_correlations(
    num_features: int,
    correlations: Mapping[tuple[int, int], float] | None = None,
    default_correlation: float = 0.0,
) -> torch.Tensor:
    """A correlation matrix with the given pairs: float32 [N, N], symmetric, unit diagonal.

    Where the pairs do not fit together (the matrix is not positive semi-definite), eigenvalues
    below 1e-6 are raised to that and the diagonal is rescaled to 1, which changes the pairs.

    Args:
        num_features: number of features N, at least 0.
        correlations: ``{(i, j): rho}`` with rho in [-1, 1], i != j, both in [0, N); a pair may
            be given both ways round with the same rho.
        default_correlation: of every other pair, in [-1, 1].

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.create_correlation_matrix_from_correlations(3, {(0, 1): 0.5, (1, 2): -0.25})
        tensor([[ 1.0000,  0.5000,  0.0000],
                [ 0.5000,  1.0000, -0.2500],
                [ 0.0000, -0.2500,  1.0000]])
    """
    n = as_int("num_features", num_features, low=0)
    default = as_float("default_correlation", default_correlation, low=-1, high=1)
    matrix = torch.full((n, n), default, dtype=torch.float64, device="cpu")
    if correlations:
        given: dict[tuple[int, int], float] = {}
        for pair, value in correlations.items():
            number = as_float(f"correlations[{pair}]", value, low=-1, high=1)
            before = given.setdefault(_pair(pair, n), number)
            if before != number:
                raise ValueError(f"correlations must agree, got {before} and {number} for {pair}")
        i, j = torch.tensor(list(given), device="cpu").T
        rho = torch.tensor(list(given.values()), dtype=torch.float64, device="cpu")
        matrix[i, j] = rho
        matrix[j, i] = rho
    matrix.fill_diagonal_(1.0)
    return _nearest_correlation(matrix).to(torch.float32)


def generate_random_correlations(
    num_features: int,
    positive_ratio: float = 0.5,
    uncorrelated_ratio: float = 0.3,
    min_correlation_strength: float = 0.1,
    max_correlation_strength: float = 0.8,
    seed: int | None = None,
) -> dict[tuple[int, int], float]:
    """Random correlations of pairs of features, SAELens' for the same seed.

    Which pairs are correlated, then their signs, then their strengths are drawn by Python's
    ``random.Random(seed)``, as SAELens draws them.

    Args:
        num_features: number of features N, at least 0.
        positive_ratio: share of the correlated pairs whose correlation is positive, rounded down.
        uncorrelated_ratio: share of all pairs that stay uncorrelated, rounded down.
        min_correlation_strength: least |rho|, in [0, 1].
        max_correlation_strength: greatest |rho|, in [min_correlation_strength, 1].
        seed: of a generator of this call's own; None draws one from torch's global generator.

    Returns:
        ``{(i, j): rho}`` with i < j, in the order in which the pairs were drawn.

    Example:
        >>> import synthkern as synthetic
        >>> pairs = synthetic.generate_random_correlations(4, seed=0)
        >>> {pair: round(rho, 2) for pair, rho in pairs.items()}
        {(1, 2): 0.51, (2, 3): -0.74, (0, 1): 0.45, (0, 2): -0.3, (0, 3): -0.63}
    """
    n, positive, uncorrelated, low, high = _check_random(
        num_features,
        positive_ratio,
        uncorrelated_ratio,
        min_correlation_strength,
        max_correlation_strength,
    )
    chance = random.Random(fresh_seed() if seed is None else as_seed("seed", seed))
    pairs = torch.triu_indices(n, n, offset=1, device="cpu")
    total = pairs.shape[1]
    # Of numbers in place of the pairs themselves, which would take most of the time.
    chosen = chance.sample(range(total), total - int(total * uncorrelated))
    above = int(len(chosen) * positive)
    signs = [1] * above + [-1] * (len(chosen) - above)
    chance.shuffle(signs)
    first, second = pairs[:, torch.tensor(chosen, dtype=torch.int64, device="cpu")].tolist()
    return {
        pair: sign * chance.uniform(low, high)
        for pair, sign in zip(zip(first, second, strict=True), signs, strict=True)
    }


def generate_random_correlation_matrix(
    num_features: int,
    positive_ratio: float = 0.5,
    uncorrelated_ratio: float = 0.3,
    min_correlation_strength: float = 0.1,
    max_correlation_strength: float = 0.8,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> torch.Tensor:
    """A random correlation matrix [N, N], SAELens' for the same seed and dtype.

    Every pair is drawn for itself: whether it is correlated, its sign, and its strength in
    ``dtype``. It is not the matrix of :func:`generate_random_correlations`, whose shares are
    exact. Where it is not positive semi-definite, it is repaired as
    :func:`create_correlation_matrix_from_correlations` says.

    Args:
        num_features: number of features N, at least 0.
        positive_ratio: probability that a correlated pair's correlation is positive.
        uncorrelated_ratio: probability that a pair stays uncorrelated.
        min_correlation_strength: least |rho|, in [0, 1].
        max_correlation_strength: greatest |rho|, in [min_correlation_strength, 1].
        seed: of a generator of this call's own; None takes torch's global one.
        device: of the result.
        dtype: of the strengths as they are drawn, and of the result.

    Example:
        >>> import synthkern as synthetic
        >>> matrix = synthetic.generate_random_correlation_matrix(3, seed=1)
        >>> matrix.round(decimals=2)
        tensor([[ 1.0000, -0.3800,  0.0000],
                [-0.3800,  1.0000, -0.5000],
                [ 0.0000, -0.5000,  1.0000]])
    """
    n, positive, uncorrelated, low, high = _check_random(
        num_features,
        positive_ratio,
        uncorrelated_ratio,
        min_correlation_strength,
        max_correlation_strength,
    )
    kind = as_dtype("dtype", dtype)
    generator = generator_of(seed)
    i, j = torch.triu_indices(n, n, offset=1, device="cpu")

    def uniforms(dtype: torch.dtype) -> torch.Tensor:
        return torch.rand(len(i), dtype=dtype, device="cpu", generator=generator)

    correlated = uniforms(torch.float32) >= uncorrelated
    negative = uniforms(torch.float32) >= positive
    rho = uniforms(kind).mul_(high - low).add_(low).mul_(correlated)
    rho[negative] *= -1
    matrix = torch.eye(n, dtype=torch.float64, device="cpu")
    matrix[i, j] = rho.double()
    matrix[j, i] = rho.double()
    return _nearest_correlation(matrix).to(device=device, dtype=kind)


def generate_random_low_rank_correlation_matrix(
    num_features: int,
    rank: int,
    correlation_scale: float = 0.075,
    seed: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> LowRankCorrelationMatrix:
    """A random correlation F F^T + diag(d) of low rank, SAELens' for the same seed and dtype.

    F is normal with standard deviation ``correlation_scale``, and d = 1 - row sums of F**2. Rows
    that leave d below 0.01 are scaled down to d = 0.01, with a warning that counts them.

    Args:
        num_features: number of features N, at least 0.
        rank: number of factors r, at least 1.
        correlation_scale: at least 0.
        seed: of a generator of this call's own; None takes torch's global one.
        device: of the result.
        dtype: in which F is drawn, and of the result.

    Example:
        >>> import synthkern as synthetic
        >>> correlation = synthetic.generate_random_low_rank_correlation_matrix(4, rank=2, seed=0)
        >>> correlation.correlation_factor.shape
        torch.Size([4, 2])
        >>> correlation.correlation_diag
        tensor([0.9862, 0.9715, 0.9824, 0.9951])
    """
    kind = as_dtype("dtype", dtype)
    factor, diag = draw_low_rank(num_features, rank, correlation_scale, seed, kind)
    return LowRankCorrelationMatrix(factor.to(device), diag.to(device=device, dtype=kind))


def draw_low_rank(
    num_features: int,
    rank: int,
    correlation_scale: float,
    seed: int | None,
    dtype: torch.dtype,
    *,
    stacklevel: int = 3,
) -> tuple[torch.Tensor, torch.Tensor]:
    """F [N, r] of ``dtype`` and d [N] in float64, of unit diagonal for F as it is rounded."""
    n, r = as_int("num_features", num_features, low=0), as_int("rank", rank, low=1)
    scale = as_float("correlation_scale", correlation_scale, low=0)
    factor = random_normals(n, r, generator=generator_of(seed), dtype=dtype).mul_(scale)
    share = _square_norms(factor)
    too_large = share > 1 - _LEAST_DIAG
    if bool(too_large.any()):
        warn(
            f"{int(too_large.sum())} of {n} rows of the correlation factor were scaled down so "
            f"that correlation_diag stays at {_LEAST_DIAG} or above; a lower rank or "
            "correlation_scale avoids that",
            stacklevel=stacklevel,
        )
        scaled = factor[too_large] * ((1 - _LEAST_DIAG) / share[too_large]).sqrt().unsqueeze(1)
        factor[too_large] = scaled.to(dtype)
        share[too_large] = _square_norms(factor[too_large])
    return factor, 1 - share


def _square_norms(rows: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square_()


def _pair(pair: tuple[int, int], n: int) -> tuple[int, int]:
    """The pair in ascending order."""
    i, j = pair
    as_int("correlations index", i, low=0, high=n - 1)
    as_int("correlations index", j, low=0, high=n - 1)
    if i == j:
        raise ValueError(f"correlations must be of two different features, got {pair}")
    return (i, j) if i < j else (j, i)


def _check_random(
    num_features: int,
    positive_ratio: float,
    uncorrelated_ratio: float,
    min_strength: float,
    max_strength: float,
) -> tuple[int, float, float, float, float]:
    low = as_float("min_correlation_strength", min_strength, low=0, high=1)
    return (
        as_int("num_features", num_features, low=0),
        as_float("positive_ratio", positive_ratio, low=0, high=1),
        as_float("uncorrelated_ratio", uncorrelated_ratio, low=0, high=1),
        low,
        as_float("max_correlation_strength", max_strength, low=low, high=1),
    )


def _nearest_correlation(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix itself where it is positive semi-definite, else with eigenvalues clipped."""
    if int(torch.linalg.cholesky_ex(matrix).info) == 0:  # a sixtieth of the eigenvalues' cost
        return matrix
    values, vectors = torch.linalg.eigh(matrix)
    # Rounding leaves eigenvalues that are exactly zero a little below it.
    if float(values[0]) >= -1e-12 * matrix.shape[0]:
        return matrix
    clipped = (vectors * values.clamp(min=_LEAST_EIGENVALUE)) @ vectors.T
    scale = clipped.diagonal().rsqrt()
    clipped = clipped * scale[:, None] * scale[None, :]
    clipped = (clipped + clipped.T) / 2
    clipped.fill_diagonal_(1.0)
    return clipped
