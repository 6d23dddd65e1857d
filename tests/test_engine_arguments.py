"""What the engine is called with is checked, alike by all backends, and never ends the process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from synthkern import SparseActivations, _core, engine
from synthkern.activation_generator import ActivationGenerator

PRE = torch.rand(6, 10, generator=torch.Generator().manual_seed(3))


def csr(offsets: list[int], indices: list[int], width: int = 10) -> SparseActivations:
    return SparseActivations(
        torch.tensor(offsets, dtype=torch.int64),
        torch.tensor(indices, dtype=torch.int32),
        torch.ones(len(indices)),
        width,
        validate=False,
    )


GOOD = csr([0, 1, 3], [4, 0, 9])
BROKEN = {
    "offsets descend": csr([0, 3, 1], [1]),
    "offsets past the end": csr([0, 1, 7], [1, 2, 3]),
    "no offsets": csr([], []),
    "offsets from elsewhere": csr([1, 2, 3], [1, 2, 3]),
    "offsets overflow": csr([0, 2**63 - 1, -(2**63), 3], [1, 2, 3]),
    "index too large": csr([0, 1, 3], [1, 2, 10]),
    "index negative": csr([0, 1, 3], [1, -1, 2]),
}


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("size", [-1, -(2**31), -(2**63)])
def test_a_count_below_zero_is_refused(backend: str, size: int, positive: bool) -> None:
    with pytest.raises(ValueError, match=rf"k must be an integer >= 0, got {size}"):
        engine.select_topk(PRE, size, positive=positive)
    with pytest.raises(ValueError, match=rf"count must be an integer >= 0, got {size}"):
        engine.select_batch_topk(PRE, size, positive=positive)


@pytest.mark.parametrize("size", [1.0, True, None, "3"])
def test_a_count_that_is_no_integer_is_refused(backend: str, size: Any) -> None:
    with pytest.raises(TypeError, match="k must be an integer"):
        engine.select_topk(PRE, size)
    with pytest.raises(TypeError, match="count must be an integer"):
        engine.select_batch_topk(PRE, size)


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**63 - 1, 2**80])
@pytest.mark.parametrize("shape", [(6, 10), (0, 10), (6, 0), (0, 0)])
def test_any_other_count_and_shape_gives_what_there_is(
    backend: str, size: int, shape: tuple[int, int]
) -> None:
    pre = PRE[: shape[0], : shape[1]]
    found = engine.select_topk(pre, size, positive=False)
    assert found.nnz == shape[0] * min(size, shape[1])
    found = engine.select_batch_topk(pre, size, positive=False)
    assert found.nnz == min(size, pre.numel())
    assert found.shape == shape


@pytest.mark.parametrize(
    ("pre", "scale", "message"),
    [
        (PRE[0], None, r"pre must have shape \[\*, \*\], got \[10\]"),
        (PRE.long(), None, "pre must be a dense floating-point tensor, got torch.int64"),
        (PRE.to_sparse(), None, "pre must be a dense floating-point tensor"),
        (PRE, torch.ones(9), r"scale must have shape \[10\], got \[9\]"),
        (PRE, torch.ones(1), r"scale must have shape \[10\], got \[1\]"),
        (PRE, torch.ones(10, dtype=torch.long), "scale must be a dense floating-point tensor"),
        (PRE, torch.ones(10, device="meta"), "scale must be on cpu, got meta"),
    ],
)
def test_other_tensors_are_refused_in_a_selection(
    backend: str, pre: torch.Tensor, scale: torch.Tensor | None, message: str
) -> None:
    for select in (engine.select_topk, engine.select_batch_topk):
        with pytest.raises(ValueError, match=message):
            select(pre, 3, scale=scale)
    if scale is not None:
        with pytest.raises(ValueError, match=message.replace("scale", "bounds")):
            engine.select_above(pre, scale)


SPECIAL = torch.tensor([[0.0, torch.inf, torch.nan, -torch.inf, 1e-45, -torch.nan, 5.0, -0.0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("k", "chosen"),
    [
        (1, [1]),  # infinity before NaN that comes later
        (2, [1, 2]),
        (3, [1, 2, 5]),
        (4, [1, 2, 5, 6]),
        (5, [1, 2, 4, 5, 6]),  # the subnormal before zeros
        (6, [0, 1, 2, 4, 5, 6]),
        (7, [0, 1, 2, 4, 5, 6, 7]),  # minus zero is zero
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_nan_and_infinity_have_one_place_in_the_order(
    backend: str, dtype: torch.dtype, k: int, chosen: list[int]
) -> None:
    pre = SPECIAL.to(dtype)
    assert engine.select_topk(pre, k, positive=False).indices.tolist() == chosen
    assert engine.select_batch_topk(pre, k, positive=False).indices.tolist() == chosen
    above = [j for j in chosen if j not in (0, 3, 7)]
    assert engine.select_topk(pre, k).indices.tolist() == above
    assert engine.select_batch_topk(pre, k).indices.tolist() == above


def test_above_a_bound_that_is_no_number(backend: str) -> None:
    pre = torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf]])
    for bound, chosen in ((torch.nan, [0, 1, 2, 3]), (torch.inf, [1]), (-torch.inf, [0, 1, 2])):
        found = engine.select_above(pre, torch.full((4,), bound))
        assert found.indices.tolist() == chosen


@pytest.mark.parametrize("name", BROKEN)
def test_entries_that_are_none_are_refused(backend: str, name: str) -> None:
    broken = BROKEN[name]
    message = "indices must be in" if "index" in name else "offsets must ascend"
    batch = max(broken.batch_size, 0)
    vectors, grad = torch.ones(10, 3), torch.ones(batch, 3)
    calls = [
        lambda: engine.gather(broken, vectors, torch.zeros(3)),
        lambda: engine.gather(broken, vectors, torch.zeros(3), mode="split"),
    ]
    if broken.batch_size >= 0:
        calls += [
            lambda: engine.gather_grad_vectors(broken, grad),
            lambda: engine.gather_grad_values(broken, vectors, grad),
            lambda: engine.pursue_grad(grad, vectors, broken, torch.ones(broken.nnz)),
            lambda: engine.count_fires(broken, broken, torch.zeros(10, dtype=torch.int64)),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_entries_must_fit_what_they_meet(backend: str) -> None:
    with pytest.raises(ValueError, match=r"vectors must have shape \[10, 3\], got \[9, 3\]"):
        engine.gather(GOOD, torch.ones(9, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"grad must have shape \[2, \*\], got \[3, 3\]"):
        engine.gather_grad_vectors(GOOD, torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"grad must have shape \[2, 3\], got \[2, 4\]"):
        engine.gather_grad_values(GOOD, torch.ones(10, 3), torch.ones(2, 4))
    for matched in (-1, 10, 2**32, 2**63 - 1):
        with pytest.raises(ValueError, match=r"matched must be in \[0, 10\), got"):
            engine.count_fires(GOOD, GOOD, torch.full((10,), matched))
    with pytest.raises(ValueError, match="features must have 2 samples"):
        engine.count_fires(GOOD, csr([0, 1], [1]), torch.zeros(10, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": -1}, "iterations must be an integer >= 0"),
        ({"iterations": 2**63}, "iterations must be an integer >= 0"),
        ({"residual_threshold": -1.0}, "residual_threshold must be a number"),
        ({"residual_threshold": float("nan")}, "residual_threshold must be a number"),
    ],
)
def test_a_pursuit_checks_its_numbers(backend: str, changes: dict[str, Any], message: str) -> None:
    given = {"residual_threshold": 0.0, "iterations": 3, "stop_on_repeat": True} | changes
    with pytest.raises(ValueError, match=message):
        engine.pursue(PRE, torch.ones(4, 10), **given)


@pytest.mark.parametrize("count", [-1, 2**63 - 1, 2**64])
def test_sampling_checks_its_count(backend: str, count: int) -> None:
    plan = ActivationGenerator(4, 0.5).plan
    with pytest.raises(ValueError, match="count must be an integer"):
        engine.sample(plan, seed=0, start=0, count=count)


def test_the_core_itself_checks_counts() -> None:
    pre = PRE.numpy()
    for size in (-1, -(2**63)):
        with pytest.raises(ValueError, match="k must be in"):
            _core.select_topk(pre, None, size, False, 1)
        with pytest.raises(ValueError, match="count must be in"):
            _core.select_batch_topk(pre, None, size, False, 1)
    for threads in (-(2**31), 0, 2**31 - 1):
        assert len(_core.select_batch_topk(pre, None, 2**63 - 1, False, threads)[1]) == 60
    zero = np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
    with pytest.raises(ValueError, match=r"negative|num_features must be in"):
        _core.gather_grad_vectors(*zero, -1, np.zeros((0, 3), np.float32), 1)
