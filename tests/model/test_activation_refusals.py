"""What the activation generator refuses: each error names the argument and the value."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from synthkern import ActivationGenerator, LowRankCorrelationMatrix

NAN, INF = math.nan, math.inf


def _refused(kind: type[Exception], *parts: str, **arguments: Any) -> None:
    """The error names all of the given parts."""
    given = {"num_features": 3, "firing_probabilities": 0.5, **arguments}
    with pytest.raises(kind) as caught:
        ActivationGenerator(**given)
    for part in parts:
        assert part in str(caught.value), caught.value


@pytest.mark.parametrize("bad", [0, -1, 2**31])
def test_sizes_out_of_range_are_refused(bad: int) -> None:
    _refused(ValueError, "num_features", str(bad), num_features=bad)


@pytest.mark.parametrize("bad", [1.0, True, "3", None])
def test_sizes_of_a_wrong_type_are_refused(bad: Any) -> None:
    _refused(TypeError, "num_features", repr(bad), num_features=bad)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("firing_probabilities", [-0.25, 1.25], ">= 0 and <= 1"),
        ("firing_probabilities", [NAN, INF], "finite"),
        ("std_firing_magnitudes", [-0.5], ">= 0"),
        ("std_firing_magnitudes", [NAN, INF], "finite"),
        ("mean_firing_magnitudes", [NAN, -INF, 1e300], "finite"),  # the last not in float32
    ],
)
def test_numbers_out_of_range_are_refused_with_their_place(
    name: str, values: list[float], expected: str
) -> None:
    for bad in values:
        vector = torch.tensor([0.5, bad, 0.5], dtype=torch.float64)
        _refused(ValueError, name, expected, f"got {bad!r} at [1]", **{name: vector})
        _refused(ValueError, name, expected, f"got {bad!r}", **{name: bad})
        _refused(ValueError, name, expected, **{name: vector[1]})


@pytest.mark.parametrize(
    "name", ["firing_probabilities", "std_firing_magnitudes", "mean_firing_magnitudes"]
)
def test_numbers_of_a_wrong_kind_or_shape_are_refused(name: str) -> None:
    for bad in (True, "0.5", ["a", "b", "c"], None, 1j):
        _refused(TypeError, name, **{name: bad})
    _refused(TypeError, name, "complex64", **{name: torch.ones(3, dtype=torch.complex64)})
    for shape in ((2,), (4,), (1, 3), (3, 1), (0,)):
        _refused(ValueError, name, "[3]", str(list(shape)), **{name: torch.full(shape, 0.5)})


@pytest.mark.parametrize("bad", ["float", "int64", torch.int32, torch.complex64, None])
def test_dtypes_other_than_four_floats_are_refused(bad: Any) -> None:
    _refused(ValueError, "dtype", "bfloat16", repr(bad), dtype=bad)
    _refused(TypeError, "use_sparse_tensors", "1", use_sparse_tensors=1)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"batch_size": -1}, ValueError, "batch_size must be an integer >= 0 and <= 2147483647"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"batch_size": True}, TypeError, "batch_size must be an integer, got True"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": 2**64}, ValueError, f"<= {2**64 - 1}, got {2**64}"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ({"start": -1}, ValueError, "start must be an integer >= 0"),
        ({"start": 2**64}, ValueError, f"<= {2**64 - 1}, got {2**64}"),
        ({"start": None}, TypeError, "start must be an integer, got None"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_sample_refuses(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    world = ActivationGenerator(3, 0.5)
    for sample in (world.sample, world.sample_sparse, world.forward):
        with pytest.raises(kind, match=re.escape(message)):
            sample(**{"batch_size": 2, **arguments})


def _matrix(**places: float) -> torch.Tensor:
    """The identity of order 3 with some entries changed: m01=0.5 changes [0, 1]."""
    matrix = torch.eye(3)
    for place, value in places.items():
        matrix[int(place[1]), int(place[2])] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.eye(4), "correlation_matrix must have shape [3, 3], got [4, 4]"),
        (torch.ones(3), "correlation_matrix must have shape [3, 3], got [3]"),
        (torch.ones(3, 4), "correlation_matrix must have shape [3, 3], got [3, 4]"),
        (torch.eye(3)[None], "correlation_matrix must have shape [3, 3], got [1, 3, 3]"),
        (_matrix(m01=0.5), "must be symmetric, got 0.5 at [0, 1] and 0.0 at [1, 0]"),
        (_matrix(m11=1.5), "must have a unit diagonal, got 1.5 at [1]"),
        (_matrix(m22=0.0), "must have a unit diagonal, got 0.0 at [2]"),
        (_matrix(m01=1.5, m10=1.5), "positive definite, but its leading minor of order 2"),
        (torch.ones(3, 3), "positive definite, but its leading minor of order 2"),
        (_matrix(m02=NAN), "correlation_matrix must be finite, got nan at [0, 2]"),
        (_matrix(m20=INF), "correlation_matrix must be finite, got inf at [2, 0]"),
        (_matrix(m00=-INF), "correlation_matrix must be finite, got -inf at [0, 0]"),
    ],
)
def test_full_matrices_that_are_no_correlation_are_refused(
    matrix: torch.Tensor, message: str
) -> None:
    _refused(ValueError, message, correlation_matrix=matrix)
    _refused(ValueError, message, correlation_matrix=matrix.double())


def test_a_matrix_that_is_positive_definite_in_pairs_only_is_refused() -> None:
    matrix = torch.full((3, 3), -0.6).fill_diagonal_(1)  # eigenvalue 1 - 2 * 0.6
    _refused(ValueError, "leading minor of order 3", correlation_matrix=matrix)
    fine = torch.full((3, 3), -0.4).fill_diagonal_(1)
    assert ActivationGenerator(3, 0.5, correlation_matrix=fine).sample(5).shape == (5, 3)


FACTOR, DIAG = torch.full((3, 2), 0.5), torch.full((3,), 0.5)


def _with(tensor: torch.Tensor, place: Any, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("factor", "diag", "message"),
    [
        (FACTOR[:2], DIAG, "correlation_factor must have shape [3, rank], got [2, 2]"),
        (FACTOR[:, 0], DIAG, "correlation_factor must have shape [3, rank], got [3]"),
        (FACTOR.T, DIAG, "correlation_factor must have shape [3, rank], got [2, 3]"),
        (FACTOR, DIAG[:2], "correlation_diag must have shape [3], got [2]"),
        (FACTOR, DIAG[:, None], "correlation_diag must have shape [3], got [3, 1]"),
        (FACTOR, _with(DIAG, 1, 0.0), "diag must hold finite numbers > 0, got 0.0 at [1]"),
        (FACTOR, _with(DIAG, 2, -0.5), "> 0, got -0.5 at [2]"),
        (FACTOR, _with(DIAG, 0, NAN), "diag must hold finite numbers > 0, got nan at [0]"),
        (FACTOR, _with(DIAG, 0, INF), "diag must hold finite numbers > 0, got inf at [0]"),
        (_with(FACTOR, (1, 0), NAN), DIAG, "correlation_factor must be finite, got nan at [1, 0]"),
        (_with(FACTOR, (2, 1), INF), DIAG, "correlation_factor must be finite, got inf at [2, 1]"),
        (FACTOR, _with(DIAG, 1, 0.75), "must have a unit diagonal, got 1.25 at [1]"),
        (_with(FACTOR, (0, 0), 0.0), DIAG, "must have a unit diagonal, got 0.75 at [0]"),
        (_with(FACTOR, (0, 0), 1e30), DIAG, "must have a unit diagonal, got "),
    ],
)
@pytest.mark.parametrize("kind", [tuple, LowRankCorrelationMatrix._make])
def test_low_rank_pairs_that_are_no_correlation_are_refused(
    kind: Any, factor: torch.Tensor, diag: torch.Tensor, message: str
) -> None:
    _refused(ValueError, message, correlation_matrix=kind((factor, diag)))


def test_correlations_of_a_wrong_kind_are_refused() -> None:
    for bad in (0.5, "identity", np.eye(3), [[1.0]], torch.eye(3, dtype=torch.int64)):
        _refused(TypeError, "correlation_matrix must be", correlation_matrix=bad)
    _refused(ValueError, "pair (factor, diag), got 3 items", correlation_matrix=(FACTOR,) * 3)
    _refused(TypeError, "correlation_factor must be", correlation_matrix=(None, DIAG))
    _refused(TypeError, "correlation_diag must be", correlation_matrix=(FACTOR, 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_of_a_diagonal_is_no_reason_to_refuse(dtype: torch.dtype) -> None:
    """Rows of F**2 and d that add up to 1 before they are rounded to a dtype."""
    factor = torch.linspace(-0.4, 0.4, 30, dtype=torch.float64).reshape(3, 10)
    diag = 1 - factor.square().sum(dim=1)
    pair = (factor.to(dtype), diag.to(dtype))
    assert ActivationGenerator(3, 0.5, correlation_matrix=pair).sample(5).shape == (5, 3)
