"""Sparse maps: outputs that are thresholded sums of what fires."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from synthkern import SparseActivations, engine

#: (B, N, K, edges of a feature, entries of a sample), the shares of what there may be.
SHAPES = [
    (1, 1, 1, 1.0, 1.0),
    (5, 3, 7, 0.5, 0.5),
    (66, 6, 5, 0.4, 0.3),
    (2, 9, 1025, 1.0, 0.3),
    (3, 8, 40, 1.0, 0.0),
    (3, 8, 40, 0.0, 1.0),
    (0, 4, 4, 0.5, 0.5),
    (4, 4, 0, 0.5, 0.5),
]


def drawn(rows: int, columns: int, share: float, seed: int, low: float = -1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.empty(rows, columns).uniform_(low, 1.0, generator=generator)
    return values * (torch.rand(rows, columns, generator=generator) < share)


def world(
    shape: tuple[int, int, int, float, float], dtype: torch.dtype = torch.float32
) -> tuple[SparseActivations, SparseActivations, torch.Tensor]:
    b, n, k, edges, fires = shape
    thresholds = drawn(1, k, 0.5, 3, low=0.0)[0] / 2
    activations = SparseActivations.from_dense(drawn(b, n, fires, 1))
    weights = SparseActivations.from_dense(drawn(n, k, edges, 2))
    return activations.to_dtype(dtype), weights.to_dtype(dtype), thresholds.to(dtype)


def nearest(number: Fraction) -> float:
    """The float32 nearest to a number, to even between two; none here is subnormal."""
    if not number:
        return 0.0
    exponent = math.frexp(float(number))[1]
    # round() of a fraction is to even.
    return float(round(number * Fraction(2) ** (24 - exponent)) * Fraction(2) ** (exponent - 24))


def brute_force(
    activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor
) -> list[list[tuple[int, float]]]:
    """One output of a sample after the other, in fractions that are rounded where the engine's
    numbers are.
    """

    def fma(a: float, b: float, c: float) -> float:
        return nearest(Fraction(a) * Fraction(b) + Fraction(c))

    edges = [
        list(zip(row.indices.tolist(), row.values.tolist(), strict=True))
        for row in (weights[j] for j in range(len(weights)))
    ]
    found = []
    for b in range(len(activations)):
        sums: dict[int, float] = {}
        entries = activations[b]
        for j, value in zip(entries.indices.tolist(), entries.values.tolist(), strict=True):
            for k, weight in edges[j]:
                sums[k] = fma(weight, value, sums.get(k, 0.0))
        outputs = {
            k: nearest(Fraction(total) - Fraction(float(thresholds[k])))
            for k, total in sums.items()
        }
        found.append(sorted((k, value) for k, value in outputs.items() if value > 0))
    return found


def as_lists(outputs: SparseActivations) -> list[list[tuple[int, float]]]:
    return [
        list(zip(row.indices.tolist(), row.values.tolist(), strict=True))
        for row in (outputs[b] for b in range(len(outputs)))
    ]


def test_by_hand(backend: str) -> None:
    weights = SparseActivations.from_dense(
        torch.tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0], [0.0, 0.0, 0.0]])
    )
    features = SparseActivations.from_dense(
        torch.tensor([[2.0, 2.0, 5.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    )
    outputs = engine.apply_map(features, weights, torch.tensor([1.5, 0.0, 2.0]))
    # 2 + 1 - 1.5, -2, 4 - 2; 1.5 - 1.5 is not above 0; 1 - 1.5, 2 - 2; nothing has an edge.
    assert as_lists(outputs) == [[(0, 1.5), (2, 2.0)], [], [], []]
    assert tuple(outputs.shape) == (4, 3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_brute_force(backend: str, shape: tuple[int, int, int, float, float]) -> None:
    activations, weights, thresholds = world(shape)
    outputs = engine.apply_map(activations, weights, thresholds)
    assert as_lists(outputs) == brute_force(activations, weights, thresholds)
    outputs.check_places(ascending=True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES[1:4], ids=str)
def test_the_same_bits_of_any_batch_and_threads(
    backend: str, shape: tuple[int, int, int, float, float], threads: int
) -> None:
    torch.set_num_threads(threads)
    activations, weights, thresholds = world(shape)
    whole = engine.apply_map(activations, weights, thresholds)
    for cut in (1, len(activations) // 2):
        parts = [activations[:cut], activations[cut:]]
        found = SparseActivations.cat([engine.apply_map(p, weights, thresholds) for p in parts])
        assert torch.equal(found.offsets, whole.offsets)
        assert torch.equal(found.indices, whole.indices)
        assert torch.equal(found.values, whole.values)


def test_sums_are_rounded_once_an_edge_in_the_order_of_the_entries(backend: str) -> None:
    # 1 + 2**-24 * (1 + 2**-23) is above the middle of 1 and its successor only unrounded.
    weights = SparseActivations.from_dense(torch.tensor([[1.0], [2.0**-24]]))
    features = SparseActivations.from_dense(torch.tensor([[1.0, 1 + 2.0**-23]]))
    outputs = engine.apply_map(features, weights, torch.zeros(1))
    assert outputs.values.tolist() == [1 + 2.0**-23]
    # The large ones first cancel what comes before them, not after.
    weights = SparseActivations.from_dense(torch.tensor([[1.0], [2.0**30], [-(2.0**30)], [1.0]]))
    features = SparseActivations.from_dense(torch.ones(1, 4))
    assert engine.apply_map(features, weights, torch.zeros(1)).values.tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(backend: str, dtype: torch.dtype) -> None:
    activations, weights, thresholds = world((5, 30, 12, 0.5, 0.4), torch.float64)
    found = engine.apply_map(activations.to_dtype(dtype), weights, thresholds)
    dense = activations.to_dtype(dtype).to_dense().double() @ weights.to_dense()
    wanted = (dense - thresholds).clamp(min=0)
    # Up to twelve terms below 1, each rounded once, and the result.
    tolerance = {torch.float64: 1e-14, torch.bfloat16: 2.0**-6, torch.float16: 2.0**-9}[dtype]
    assert found.dtype == dtype
    torch.testing.assert_close(found.to_dense().double(), wanted, rtol=0, atol=tolerance)


def test_nan_shows(backend: str) -> None:
    weights = SparseActivations.from_dense(torch.ones(2, 2))
    features = SparseActivations.from_dense(
        torch.tensor([[torch.nan, 1.0], [torch.inf, -torch.inf], [-torch.inf, 0.0]])
    )
    outputs = engine.apply_map(features, weights, torch.ones(2))
    assert outputs.offsets.tolist() == [0, 2, 4, 4]
    assert all(math.isnan(value) for value in outputs.values.tolist())


def test_bad_input(backend: str) -> None:
    activations, weights, thresholds = world((3, 4, 5, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"activations must have shape \[3, 4\], got \[3, 9\]"):
        engine.apply_map(world((3, 9, 5, 1.0, 1.0))[0], weights, thresholds)
    with pytest.raises(ValueError, match=r"thresholds must have shape \[5\], got \[4\]"):
        engine.apply_map(activations, weights, thresholds[:4])
    with pytest.raises(ValueError, match=r"thresholds must be at least 0, got -1"):
        engine.apply_map(activations, weights, thresholds - 1 - thresholds)
    with pytest.raises(ValueError, match=r"thresholds must be finite, got nan"):
        engine.apply_map(activations, weights, thresholds * torch.nan)
    with pytest.raises(ValueError, match=r"weights must be finite, got inf"):
        engine.apply_map(activations, weights.with_values(weights.values / 0), thresholds)
    with pytest.raises(TypeError, match=r"weights must be SparseActivations, got Tensor"):
        engine.apply_map(activations, weights.to_dense(), thresholds)  # type: ignore[arg-type]
    twice = SparseActivations(
        torch.tensor([0, 2]), torch.tensor([1, 1]).int(), torch.ones(2), 5, validate=False
    )
    with pytest.raises(ValueError, match="indices must ascend within a sample"):
        engine.apply_map(world((3, 1, 5, 1.0, 1.0))[0], twice, thresholds)
