"""Where backends once gave different answers to the same arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from synthkern import HierarchyNode, engine, hierarchy_modifier
from synthkern.sparse import SparseActivations

STEPS: dict[str, Any] = {"residual_threshold": 0.0, "iterations": 2, "stop_on_repeat": False}


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
