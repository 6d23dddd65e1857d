"""Compiling a world: checking its numbers and laying them out as a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from synthkern._checks import as_int, as_vector, check_finite, is_whole
from synthkern.plan.forest import Forest
from synthkern.plan.magnitudes import compile_magnitudes
from synthkern.plan.manifolds import Manifolds, compile_manifolds
from synthkern.plan.plan import LANES, Plan
from synthkern.plan.sequence import compile_sequence
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.magnitude_distribution import MagnitudeDistribution
from synthkern.world.manifolds import ManifoldConfig
from synthkern.world.sequence import SequenceConfig

#: How far a diagonal may be from 1, at least: float32 rounding of a long row sum.
_DIAGONAL_TOLERANCE = 1e-4

#: A correlation as users may give it: full [N, N], low-rank, or the pair (factor, diag).
Correlation = torch.Tensor | LowRankCorrelationMatrix | tuple[torch.Tensor, torch.Tensor]


def compile_plan(
    num_features: int,
    firing_probabilities: float | torch.Tensor,
    mean: float | torch.Tensor,
    std: float | torch.Tensor,
    correlation: Correlation | None = None,
    forests: Sequence[Forest] = (),
    *,
    sequence: SequenceConfig | None = None,
    magnitude_distribution: MagnitudeDistribution | None = None,
    manifolds: ManifoldConfig | Manifolds | None = None,
) -> Plan:
    """The plan of a world, on the CPU; every argument is checked first, by itself: whether
    the values stay finite is for :func:`largest_values`.

    Args:
        num_features: N, at least 1.
        firing_probabilities: p, a number or [N], in [0, 1]; as the magnitudes, a tensor of any
            real dtype: one of booleans or integers is what SAELens takes too.
        mean: mean magnitudes, a number or [N].
        std: their standard deviations, a number or [N], at least 0.
        correlation: full [N, N], low-rank, or None for independent firing.
        forests: applied in order; their features are below N.
        sequence: samples are positions of sequences; None for samples by themselves.
        magnitude_distribution: the normal where None.
        manifolds: or None; of the features of one only the leader keeps its probability.
    """
    n = as_int("num_features", num_features, low=1, high=2**31 - 1)
    p = as_vector("firing_probabilities", _as_real(firing_probabilities), n, low=0, high=1)
    means = as_vector("mean_firing_magnitudes", _as_real(mean), n)
    stds = as_vector("std_firing_magnitudes", _as_real(std), n, low=0)
    circles = compile_manifolds(manifolds, n, forests)
    if circles is not None:
        p[circles.partners()] = 0
    factor, noise, rank, triangular = _copula(correlation, n)
    padding = -factor.shape[1] % LANES
    return Plan(
        probability=p,
        fire_below=(p.double() * 2.0**40 + 0.5).floor().long(),
        threshold=-torch.special.ndtri(p.double()).to(torch.float32),
        # A Cholesky factor comes in columns, and a row is what is read.
        factor=torch.nn.functional.pad(factor, (0, padding)).contiguous(),
        noise_scale=noise,
        rank=rank,
        triangular=triangular,
        mean=means,
        std=stds,
        forests=tuple(forests),
        manifolds=circles,
        magnitudes=compile_magnitudes(magnitude_distribution, means, stds),
        sequence=None if sequence is None else compile_sequence(sequence, n, forests),
    )


def _as_real(value: float | torch.Tensor) -> float | torch.Tensor:
    """Integers and booleans as the floating-point numbers that they are."""
    return value.to(torch.float64) if is_whole(value) else value


def _copula(
    correlation: Correlation | None, n: int
) -> tuple[torch.Tensor, torch.Tensor, int, bool]:
    """Loadings [N, rank], noise scale [N], rank, and whether the loadings are triangular."""
    if correlation is None:
        return _constant(0, n, 0), _constant(1, n), 0, False
    if isinstance(correlation, tuple):
        if len(correlation) != 2:
            raise ValueError(
                f"correlation_matrix must be a pair (factor, diag), got {len(correlation)} items"
            )
        factor, diag = _low_rank(*correlation, n)
        return factor.to(torch.float32), diag.sqrt().to(torch.float32), factor.shape[1], False
    matrix = _tensor("correlation_matrix", correlation)
    if tuple(matrix.shape) != (n, n):
        raise ValueError(f"correlation_matrix must have shape [{n}, {n}], got {list(matrix.shape)}")
    tolerance = _tolerance(matrix)
    matrix = matrix.double().cpu()
    check_finite("correlation_matrix", matrix)
    _check_unit("correlation_matrix", matrix.diagonal(), tolerance)
    skew = (matrix - matrix.T).abs()
    if float(skew.max()) > tolerance:
        i, j = divmod(int(skew.argmax()), n)
        raise ValueError(
            f"correlation_matrix must be symmetric, got {float(matrix[i, j])!r} at "
            f"[{i}, {j}] and {float(matrix[j, i])!r} at [{j}, {i}]"
        )
    lower, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        raise ValueError(
            "correlation_matrix must be positive definite, but its leading minor of order "
            f"{int(info)} is not"
        )
    return lower.to(torch.float32), _constant(0, n), n, True


def _constant(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, value, dtype=torch.float32, device="cpu")


def _low_rank(factor: Any, diag: Any, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    factor = _tensor("correlation_factor", factor)
    diag = _tensor("correlation_diag", diag)
    if factor.dim() != 2 or factor.shape[0] != n:
        raise ValueError(
            f"correlation_factor must have shape [{n}, rank], got {list(factor.shape)}"
        )
    if tuple(diag.shape) != (n,):
        raise ValueError(f"correlation_diag must have shape [{n}], got {list(diag.shape)}")
    tolerance = max(_tolerance(factor), _tolerance(diag))
    factor, diag = factor.cpu(), diag.double().cpu()
    check_finite("correlation_factor", factor)
    as_vector("correlation_diag", diag, n, low=0, open_low=True)
    share = torch.linalg.vector_norm(factor, dim=1, dtype=torch.float64).square()
    _check_unit(
        "correlation_factor @ correlation_factor.T + correlation_diag", share + diag, tolerance
    )
    return factor, diag


def _tensor(name: str, value: Any) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, torch.Tensor) else repr(value)
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    return value.detach()


def _tolerance(value: torch.Tensor) -> float:
    return max(_DIAGONAL_TOLERANCE, 4 * torch.finfo(value.dtype).eps)


def _check_unit(name: str, diagonal: torch.Tensor, tolerance: float) -> None:
    off = (diagonal - 1).abs() > tolerance
    if bool(off.any()):
        index = int(off.nonzero()[0])
        raise ValueError(
            f"{name} must have a unit diagonal, got {float(diagonal[index])!r} at [{index}]"
        )
