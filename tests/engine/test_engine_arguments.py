"""Every entry point of the engine refuses what it cannot use, the same on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from synthkern import (
    ActivationGenerator,
    HierarchyNode,
    ManifoldConfig,
    _core,
    engine,
    hierarchy_modifier,
)
from synthkern.sparse import SparseActivations

B, M, D = 3, 5, 2
HUGE = 2**63


def entries(**changes: Any) -> SparseActivations:
    """Three samples of five latents; what is changed is not checked."""
    arrays: dict[str, Any] = {
        "offsets": torch.tensor([0, 1, 1, 3]),
        "indices": torch.tensor([4, 0, 2], dtype=torch.int32),
        "values": torch.tensor([1.0, 2.0, 3.0]),
        "num_features": M,
    }
    return SparseActivations(**{**arrays, **changes}, validate=False)


PLAN = ActivationGenerator(M, 0.5).plan
CIRCLES = ActivationGenerator(M, 0.5, manifolds=ManifoldConfig(leaders=[0])).plan
TREE = HierarchyNode(0, [HierarchyNode(1)], scale_children_by_parent=True)
FOREST = hierarchy_modifier(TREE).forest
PLACE: dict[str, Any] = {"seed": 0, "start": 0, "ordinal": 0}
STEPS: dict[str, Any] = {"residual_threshold": 0.0, "iterations": 2, "stop_on_repeat": False}

#: Of each function, arguments that it takes.
GOOD: dict[str, dict[str, Any]] = {
    "sample": {
        "plan": PLAN,
        "seed": 0,
        "start": 0,
        "count": B,
        "vectors": torch.ones(M, D),
        "bias": torch.ones(D),
    },
    "sample_hidden_at": {
        "plan": PLAN,
        "position": torch.zeros(2, dtype=torch.int64),
        "count": B,
        "vectors": torch.ones(M, D),
        "bias": torch.ones(D),
    },
    "add_noise": {
        "hidden": torch.ones(B, D),
        "noise": engine.Noise(torch.ones(D), torch.ones(1, D)),
        "seed": 0,
        "start": 0,
    },
    "apply_forest_dense": {
        "forest": FOREST,
        "activations": torch.ones(B, M),
        "means": torch.ones(M),
        **PLACE,
    },
    "apply_forest_sparse": {
        "forest": FOREST,
        "activations": entries(),
        "means": torch.ones(M),
        **PLACE,
    },
    "apply_manifolds": {
        "plan": CIRCLES,
        "activations": torch.ones(B, M),
        "seed": 0,
        "start": 0,
    },
    "apply_map": {
        "activations": entries(),
        "weights": SparseActivations.from_dense(torch.ones(M, D)),
        "thresholds": torch.ones(D),
    },
    "compress": {"activations": torch.ones(B, M)},
    "gather": {"activations": entries(), "vectors": torch.ones(M, D), "bias": torch.ones(D)},
    "gather_grad_vectors": {"activations": entries(), "grad": torch.ones(B, D)},
    "gather_grad_values": {
        "activations": entries(),
        "vectors": torch.ones(M, D),
        "grad": torch.ones(B, D),
    },
    "select_topk": {
        "pre": torch.ones(B, M),
        "k": 2,
        "scale": torch.ones(M),
        "positive": True,
        "magnitude": False,
    },
    "select_batch_topk": {
        "pre": torch.ones(B, M),
        "count": 4,
        "scale": torch.ones(M),
        "positive": True,
    },
    "select_above": {"pre": torch.ones(B, M), "bounds": torch.zeros(M)},
    "pursue": {"inputs": torch.ones(B, D), "vectors": torch.eye(M, D), **STEPS},
    "pursue_grad": {
        "inputs": torch.ones(B, D),
        "vectors": torch.eye(M, D),
        "choices": entries(),
        "grad": torch.ones(3),
    },
    "count_fires": {
        "latents": entries(),
        "features": entries(),
        "matched": torch.zeros(M, dtype=torch.int64),
    },
}

#: What is wrong for an argument, whatever the function.
WRONG_MATRIX = [
    None,
    torch.ones(M),
    torch.ones(1, B, M),
    torch.ones(B, M).int(),
    torch.ones(B, M).to_sparse(),
    np.ones((B, M)),
]
WRONG_ENTRIES = [
    None,
    torch.ones(B, M),
    entries(offsets=torch.tensor([0, 2, 1, 3])),
    entries(offsets=torch.tensor([1, 1, 1, 3])),
    entries(offsets=torch.tensor([0, 1, 1, 4])),
    entries(offsets=torch.tensor([-9, 1, 1, 3])),
    entries(offsets=torch.tensor([], dtype=torch.int64)),
    entries(offsets=torch.tensor([0, 1, 1, 3]).int()),
    entries(indices=torch.tensor([4, 0, M], dtype=torch.int32)),
    entries(indices=torch.tensor([4, 0, -1], dtype=torch.int32)),
    entries(indices=torch.tensor([4, 0, 2**31 - 1], dtype=torch.int32)),
    entries(indices=torch.tensor([4, 0, 2])),
    entries(values=torch.ones(2)),
    entries(values=torch.ones(3).int()),
]
WRONG_COUNT = [-1, -(2**31), -HUGE, 1.5, None, True, "2"]
WRONG: dict[str, list[Any]] = {
    "seed": [-1, 2**64, 0.5],
    "start": [-1, 2**64, None],
    "ordinal": [-1, 2**32],
    "count": WRONG_COUNT,
    "k": WRONG_COUNT,
    "iterations": [*WRONG_COUNT, HUGE],
    "residual_threshold": [-1.0, math.nan, math.inf, None],
    "stop_on_repeat": [1, None],
    "positive": [1, None],
    "magnitude": [1, None],
    "plan": [None, FOREST],
    "forest": [None, PLAN, hierarchy_modifier(HierarchyNode(M)).forest],
    "means": [torch.ones(M + 1), torch.ones(M).double(), torch.ones(1, M), 1.0, None],
    "position": [torch.zeros(1), None],
    "hidden": [*WRONG_MATRIX, torch.ones(D, B).T],
    "noise": [
        None,
        0.5,
        (torch.ones(D), torch.ones(1, D)),
        engine.Noise(torch.ones(D + 1), torch.ones(1, D)),
        engine.Noise(torch.ones(D), torch.ones(1, D + 1)),
        engine.Noise(torch.ones(D).double(), torch.ones(1, D)),
        engine.Noise(torch.ones(D), torch.ones(1, D, device="meta")),
    ],
    "pre": WRONG_MATRIX,
    "vectors": [*WRONG_MATRIX, torch.ones(M + 1, D + 1)],
    "inputs": [*WRONG_MATRIX, torch.ones(B, D + 1), torch.ones(B, D).double()],
    "grad": [None, torch.ones(B + 1, D), torch.ones(()), torch.ones(B).int()],
    "bias": [torch.ones(D + 1), torch.ones(1, D), torch.ones(D).int(), 0.0],
    "scale": [torch.ones(M + 1), torch.ones(B, M), 1.0],
    "bounds": [torch.ones(M + 1), torch.ones(()), None],
    "choices": WRONG_ENTRIES,
    "weights": WRONG_ENTRIES,
    "thresholds": [None, torch.ones(D + 1), torch.ones(D).int(), -torch.ones(D)],
    "latents": WRONG_ENTRIES,
    "features": [*WRONG_ENTRIES, entries(offsets=torch.tensor([0, 3]))],
    "matched": [
        None,
        torch.zeros(M + 1, dtype=torch.int64),
        torch.zeros(M),
        torch.full((M,), -1),
        torch.full((M,), M),
    ],
}


def _is_sparse(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_sparse


def wrong_of(function: str, argument: str) -> list[Any]:
    if function == "gather" and argument == "activations":
        # A dense [B, M] is right here.
        arrays = [value for value in WRONG_ENTRIES if not isinstance(value, torch.Tensor)]
        return [*arrays, torch.ones(B, M + 1), torch.ones(B, M).int(), torch.ones(M)]
    if function == "apply_manifolds" and argument == "plan":
        return [*WRONG["plan"], PLAN]
    if function == "apply_manifolds" and argument == "activations":
        # Sparse ones are right too.
        return [each for each in WRONG_MATRIX if not _is_sparse(each)] + [torch.ones(B, M + 1)]
    if argument == "activations":
        is_entries = isinstance(GOOD[function][argument], SparseActivations)
        return WRONG_ENTRIES if is_entries else WRONG_MATRIX
    return WRONG[argument]


CASES = [
    pytest.param(function, argument, value, id=f"{function}-{argument}-{at}")
    for function, good in GOOD.items()
    for argument in good
    for at, value in enumerate(wrong_of(function, argument))
]


def test_each_entry_point_is_here() -> None:
    helpers = {"as_gather_mode", "backend_for", "backend_named"}
    functions = {name for name in engine.__all__ if name[0].islower()} - helpers
    assert functions == set(GOOD)


@pytest.mark.parametrize("function", GOOD)
def test_good_arguments_are_taken(backend: str, function: str) -> None:
    getattr(engine, function)(**GOOD[function])


@pytest.mark.parametrize(("function", "argument", "value"), CASES)
def test_a_wrong_argument_is_named(backend: str, function: str, argument: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(engine, function)(**{**GOOD[function], argument: value})
    # Of arrays the part that is wrong is named, of two that do not fit each other either one.
    names = {argument, "offsets", "indices", "values"}
    if argument in ("bias", "vectors", "grad"):
        names |= {"bias", "vectors", "activations", "grad", "inputs"}
    assert str(caught.value).split()[0].partition(".")[0] in names


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.select_batch_topk(np.ones((64, 100), np.float32), None, -1, True, 1),
        lambda: _core.select_topk(np.ones((4, 4), np.float32), None, -1, False, False, 1),
        lambda: _core.select_topk(np.ones(4, np.float32), None, 1, False, False, 1),
        lambda: _core.sample(_plan(), 0, 0, -1, 1, True, None, None),
        lambda: _core.sample(_plan(), 0, 0, 2, 1, True, np.ones((M, D), np.float32), None),
        lambda: _core.gather(*_csr(), np.ones(M, np.float32), np.ones(D, np.float32), 1),
        lambda: _core.compress(np.ones(3, np.float32), 1),
        lambda: _core.add_noise(*_noisy(B, D, D + 1), 0, 0, 1),
        lambda: _core.add_noise(*_noisy(B, D + 1, D), 0, 0, 1),
        lambda: _core.apply_dense(_forest(), np.ones((B, M), np.float32), None, 0, 0, 0, 1),
        lambda: _core.apply_sparse(_forest(), *_csr(), None, 0, 0, 0, 1),
    ],
)
def test_the_core_itself_refuses_too(call: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, IndexError)):
        call()


def test_a_forest_that_bites_its_tail_is_refused() -> None:
    nodes, parent = np.array([[0, 0, 1, -2]], np.int32), np.array([-1], np.int32)
    with pytest.raises(ValueError, match="forest must have parent 0 at its child 0, got -1"):
        _core.Forest(2, nodes, parent)


@pytest.mark.parametrize("threads", [-5, 0, 1, 2**31 - 1])
def test_any_number_of_threads_does_the_work(threads: int) -> None:
    offsets, indices, values = _core.compress(np.eye(4, dtype=np.float32), threads)
    assert offsets.tolist() == [0, 1, 2, 3, 4]
    assert indices.tolist() == [0, 1, 2, 3]
    assert values.tolist() == [1.0] * 4


TINY = 1e-42  # subnormal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nan_and_infinity_have_one_place_in_the_order(backend: str, dtype: torch.dtype) -> None:
    row = [-math.inf, 1.0, math.nan, -1.0, math.inf, TINY, -TINY, 0.0]
    pre = torch.tensor([row], dtype=dtype)
    order = [2, 4, 1, 5, 7, 6, 3, 0]  # NaN as infinity, the first of equal ones first
    for k in range(len(row) + 2):
        for found in (
            engine.select_topk(pre, k, positive=False),
            engine.select_batch_topk(pre, k, positive=False),
        ):
            assert found.indices.tolist() == sorted(order[:k])
        for found in (engine.select_topk(pre, k), engine.select_batch_topk(pre, k)):
            assert found.indices.tolist() == sorted(order[: min(k, 4)])
    bounds = torch.zeros(len(row), dtype=dtype)
    assert engine.select_above(pre, bounds).indices.tolist() == [1, 2, 4, 5]


def test_many_nan_do_not_hide_an_earlier_infinity() -> None:
    """Of half a million, so that the core guesses a bound from some of them."""
    pre = torch.zeros(512, 1024)
    pre[1:, ::2] = math.nan
    pre[0, 7] = math.inf
    assert engine.select_batch_topk(pre, 3).indices.tolist() == [7, 0, 2]


@pytest.mark.parametrize("k", [2**31, HUGE - 1, HUGE, 2**70])
def test_a_huge_count_is_all(backend: str, k: int) -> None:
    pre = torch.ones(B, M)
    assert engine.select_topk(pre, k).nnz == B * M
    assert engine.select_batch_topk(pre, k).nnz == B * M


@pytest.mark.parametrize("shape", [(0, 0), (0, M), (B, 0)])
def test_empty_is_empty(backend: str, shape: tuple[int, int]) -> None:
    pre = torch.ones(shape)
    for found in (
        engine.compress(pre),
        engine.select_topk(pre, 2),
        engine.select_batch_topk(pre, 2),
        engine.select_above(pre, torch.zeros(shape[1])),
        engine.pursue(torch.ones(shape[0], D), torch.ones(shape[1], D), **STEPS),
    ):
        assert found.shape == shape
        assert found.nnz == 0


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # Triton's interpreter
@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38])
def test_inputs_that_are_not_finite_show_in_pursuit(backend: str, bad: float) -> None:
    vectors = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.6, 0.8]])
    found = engine.pursue(torch.tensor([[bad, bad], [1.0, 0.0]]), vectors, **STEPS)
    assert found.offsets[1] > 0
    assert not bool(found.values[: found.offsets[1]].isfinite().all())
    assert int(found.indices[found.offsets[1]]) == 0


def test_pursuit_in_no_dimension_chooses_nothing(backend: str) -> None:
    assert engine.pursue(torch.ones(2, 0), torch.ones(3, 0), **STEPS).nnz == 0


def test_a_feature_that_comes_again_adds_to_the_gradient(backend: str) -> None:
    again = SparseActivations(
        torch.tensor([0, 3]),
        torch.tensor([1, 1, 0], dtype=torch.int32),
        torch.tensor([1.0, 2.0, 4.0]),
        2,
        validate=False,
    )
    found = engine.gather_grad_vectors(again, torch.ones(1, 2))
    assert found.tolist() == [[4.0, 4.0], [3.0, 3.0]]


@pytest.mark.parametrize("indices", [[1, 0], [0, 0]])
def test_a_forest_takes_ascending_entries_alone(backend: str, indices: list[int]) -> None:
    entries = SparseActivations(
        torch.tensor([0, 2]),
        torch.tensor(indices, dtype=torch.int32),
        torch.ones(2),
        2,
        validate=False,
    )
    forest = hierarchy_modifier(HierarchyNode(0, [HierarchyNode(1)])).forest
    with pytest.raises(ValueError, match="indices must ascend within a sample"):
        engine.apply_forest_sparse(forest, entries, None, seed=0, start=0, ordinal=0)


def test_what_is_selected_has_no_gradient(backend: str) -> None:
    pre = torch.eye(3).requires_grad_()
    entries = SparseActivations.from_dense(torch.eye(3))
    found = (
        engine.select_topk(pre, 1).values,
        engine.select_batch_topk(pre, 1).values,
        engine.compress(pre).values,
        engine.select_above(pre, torch.zeros(3)).values,
        engine.pursue(pre, pre, **STEPS).values,
        engine.gather(entries, pre, torch.zeros(3)),
        engine.gather_grad_vectors(entries, pre),
        engine.gather_grad_values(entries, pre, pre),
    )
    assert not any(value.requires_grad for value in found)


def _noisy(rows: int, width: int, of_factor: int) -> tuple[Any, Any, Any]:
    hidden = np.ones((rows, width), np.float32)
    return hidden, np.ones(D, np.float32), np.ones((1, of_factor), np.float32)


def _plan() -> Any:
    from synthkern.engine.cpu.sampler import bound_plan

    return bound_plan(PLAN)


def _forest() -> Any:
    from synthkern.engine.cpu.forest import bound_forest

    return bound_forest(FOREST, M)


def _csr() -> tuple[Any, Any, Any]:
    return tuple(entries().numpy())  # type: ignore[return-value]
