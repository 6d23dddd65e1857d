"""What applying a forest means, rule by rule, by hand: dense, COO and CSR, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from synthkern import ActivationGenerator, HierarchyNode, SparseActivations, hierarchy_modifier

pytestmark = pytest.mark.usefixtures("backend")

KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "dense": lambda dense: dense,
    "coo": lambda dense: dense.to_sparse_coo(),
    "csr": SparseActivations.from_dense,
}
kinds = pytest.mark.parametrize("kind", KINDS)


def dense_of(activations: Any) -> torch.Tensor:
    if isinstance(activations, SparseActivations):
        return activations.to_dense()
    return activations.to_dense() if activations.layout == torch.sparse_coo else activations


def node(
    feature: int | None, *children: HierarchyNode | int, one: bool = False, scale: bool = False
) -> HierarchyNode:
    """A node; ``one``: of its children at most one, ``scale``: it scales them."""
    below = [HierarchyNode(c) if isinstance(c, int) else c for c in children]
    return HierarchyNode(feature, below, one, scale)


def case(
    trees: list[HierarchyNode], row: list[float], *outcomes: list[float], means: Any = None
) -> tuple[list[HierarchyNode], list[float], list[list[float]], list[float]]:
    """Activations, every outcome that is possible, and mean magnitudes (1 where none is given)."""
    return trees, row, list(outcomes), means or [1] * len(row)


CASES = {
    "a child of an active parent passes": case([node(0, 1)], [2, 3], [2, 3]),
    "a child of a silent parent becomes zero": case([node(0, 1)], [0, 3], [0, 0]),
    "a negative parent is not active, and stays": case([node(0, 1)], [-2, 3], [-2, 0]),
    "a negative child of an active parent stays": case([node(0, 1)], [2, -3], [2, -3]),
    "a negative child of a silent parent goes": case([node(0, 1)], [0, -3], [0, 0]),
    "below a negative child all is silent": case([node(0, node(1, 2))], [2, -3, 4], [2, -3, 0]),
    "silence goes down the whole tree": case(
        [node(0, node(1, node(2, 3)))], [2, 0, 4, 5], [2, 0, 0, 0]
    ),
    "trees do not know of each other": case([node(3, 1), node(2, 0)], [4, 5, 6, 0], [4, 0, 6, 0]),
    "features outside pass, negative ones too": case(
        [node(4, 2)], [-1, 7, 3, 0.5, 0], [-1, 7, 0, 0.5, 0]
    ),
    "an organisational root is always active": case([node(None, 0, node(None, 1))], [2, 3], [2, 3]),
    "an organisational node is active where its parent is": case(
        [node(0, node(None, 1, node(None, 2))), node(3, node(None, 4))],
        [0, 5, 6, 7, 8],
        [0, 0, 0, 7, 8],
    ),
    "an organisational node without children does nothing": case(
        [node(None), node(0, node(None))], [2, 3], [2, 3]
    ),
    # 3 * (4 / 2)
    "scaling by value over mean": case([node(0, 1, scale=True)], [4, 3], [4, 6], means=[2, 8]),
    "scaling keeps a sign": case([node(0, 1, scale=True)], [4, -3], [4, -6], means=[2, 8]),
    "scaling a silent child": case([node(0, 1, scale=True)], [4, 0], [4, 0], means=[2, 8]),
    # 3 * (4 / 2) = 6, then 5 * (6 / 4) and not 5 * (3 / 4)
    "scaling cascades": case(
        [node(0, node(1, 2, scale=True), scale=True)], [4, 3, 5], [4, 6, 7.5], means=[2, 4, 1]
    ),
    "a parent's own flag decides": case(
        [node(0, node(1, 2), scale=True)], [4, 3, 5], [4, 6, 5], means=[2, 4, 1]
    ),
    "a parent that does not scale needs no mean": case(
        [node(0, node(1, 2, scale=True))], [4, 3, 5], [4, 3, 10], means=[0, 1.5, -1]
    ),
    "an organisational node that scales takes the feature above": case(
        [node(0, node(None, 1, node(None, 2), scale=True))], [4, 3, 5], [4, 6, 5], means=[2, 1, 1]
    ),
    "an organisational node that does not, does not": case(
        [node(0, node(None, 1), 2, scale=True)], [4, 3, 5], [4, 3, 10], means=[2, 1, 1]
    ),
    "an organisational root has nothing to scale by": case(
        [node(None, 0, node(None, 1, scale=True), scale=True)], [4, 3], [4, 3], means=[2, 2]
    ),
    "of exclusive children one stays": case(
        [node(0, 1, 2, 3, one=True)], [1, 5, 6, 7], [1, 5, 0, 0], [1, 0, 6, 0], [1, 0, 0, 7]
    ),
    "an active child alone stays": case([node(0, 1, 2, 3, one=True)], [1, 0, 6, 0], [1, 0, 6, 0]),
    "silent and negative siblings do not compete": case(
        [node(0, 1, 2, 3, 4, one=True)], [1, 5, -6, 0, 7], [1, 5, -6, 0, 0], [1, 0, -6, 0, 7]
    ),
    "exclusive children of a silent parent": case([node(0, 1, 2, one=True)], [0, 5, 6], [0, 0, 0]),
    "a loser's subtree falls silent": case(
        [node(0, node(1, node(3, 5)), node(2, node(None, 4)), one=True)],
        [1, 2, 3, 4, 5, 6],
        [1, 2, 0, 4, 0, 6],
        [1, 0, 3, 0, 5, 0],
    ),
    "an exclusive group below a loser is not looked at": case(
        [node(0, node(1, 3, 4, one=True), 2, one=True)],
        [1, 2, 3, 4, 5],
        [1, 2, 0, 4, 0],
        [1, 2, 0, 0, 5],
        [1, 0, 3, 0, 0],
    ),
    "an organisational child neither competes nor loses": case(
        [node(0, 1, node(None, 2, 3), 4, one=True)],
        [1, 2, 3, 4, 5],
        [1, 2, 3, 4, 0],
        [1, 0, 3, 4, 5],
    ),
    "two exclusive children of which one is organisational": case(
        [node(0, 1, node(None, 2), one=True)], [1, 2, 3], [1, 2, 3]
    ),
    "exclusive trees below an organisational root": case(
        [node(None, node(0, 1), node(2, 3), one=True)], [1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 3, 4]
    ),
    "exclusive below an organisational node below a feature": case(
        [node(0, node(None, 1, 2, one=True, scale=True))],
        [4, 3, 5],
        [4, 6, 0],
        [4, 0, 10],
        means=[2, 1, 1],
    ),
    "the winner is scaled and scales": case(
        [node(0, node(1, 2, scale=True), 3, one=True, scale=True)],
        [4, 3, 5, 7],
        [4, 6, 7.5, 0],
        [4, 0, 0, 14],
        means=[2, 4, 1, 1],
    ),
    "two groups choose for themselves": case(
        [node(None, 0, 1, one=True), node(None, 2, 3, one=True)],
        [1, 2, 3, 4],
        [1, 0, 3, 0],
        [1, 0, 0, 4],
        [0, 2, 3, 0],
        [0, 2, 0, 4],
    ),
}


@kinds
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_rules(name: str, dtype: torch.dtype, kind: str) -> None:
    """All numbers are exact in every dtype. Of 4 outcomes, 100 rows miss one in 10**12 seeds."""
    trees, row, outcomes, means = CASES[name]
    generator = ActivationGenerator(
        len(row), 0.5, mean_firing_magnitudes=torch.tensor(means, dtype=torch.float32)
    )
    given = torch.tensor([row] * 100, dtype=dtype)
    out = hierarchy_modifier(trees)(KINDS[kind](given), generator, seed=1)
    assert out.dtype == dtype
    assert tuple(out.shape) == (100, len(row))
    assert {tuple(r) for r in dense_of(out).tolist()} == {tuple(r) for r in outcomes}


@kinds
def test_rows_are_settled_one_by_one(kind: str) -> None:
    modifier = hierarchy_modifier([node(0, node(1, 2))])
    rows = torch.tensor([[1.0, 2, 3], [0, 2, 3], [1, 0, 3], [1, 2, 0], [0, 0, 0], [-1, 2, 3]])
    expected = [[1, 2, 3], [0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 0, 0], [-1, 0, 0]]
    assert dense_of(modifier(KINDS[kind](rows))).tolist() == expected


@kinds
def test_the_input_is_not_changed_nor_shared(kind: str) -> None:
    modifier = hierarchy_modifier([node(0, 1, 2, one=True), node(5, 4)])
    given = KINDS[kind](torch.rand(40, 7) + 0.5)
    before = dense_of(given).clone()
    out = modifier(given, seed=1)
    assert torch.equal(dense_of(given), before)
    (out if kind == "dense" else out.values if kind == "csr" else out._values()).zero_()
    assert torch.equal(dense_of(given), before)


@kinds
def test_each_call_takes_the_means_of_its_own_generator(kind: str) -> None:
    modifier = hierarchy_modifier(node(0, 1, scale=True))
    given = KINDS[kind](torch.tensor([[4.0, 3.0]]))
    worlds = [ActivationGenerator(2, 0.5, mean_firing_magnitudes=m) for m in (2.0, 8.0)]
    for world, expected in ((worlds[0], 6.0), (worlds[1], 1.5), (worlds[0], 6.0)):
        assert dense_of(modifier(given, world)).tolist() == [[4.0, expected]]
    # And so it does inside them, where the parent's value is not its mean.
    for mean, expected in ((2.0, 12.0), (8.0, 3.0)):
        four = partial(torch.mul, torch.tensor([4 / mean, 1.0]))
        world = ActivationGenerator(2, 1.0, 0.0, torch.tensor([mean, 6.0]), [four, modifier])
        assert world.sample(1).tolist() == [[4.0, expected]]


@kinds
def test_one_modifier_serves_any_number_of_features(kind: str) -> None:
    modifier = hierarchy_modifier(node(1, 0))
    for n in (2, 5, 3):
        rows = torch.ones(4, n)
        rows[::2, 1] = 0
        expected = rows.clone()
        expected[::2, 0] = 0
        assert torch.equal(dense_of(modifier(KINDS[kind](rows))), expected)


@kinds
def test_no_trees_give_the_identity(kind: str) -> None:
    given = torch.randn(5, 4)
    for trees in ([], (), node(None)):
        assert torch.equal(dense_of(hierarchy_modifier(trees)(KINDS[kind](given))), given)


def test_trees_are_read_once() -> None:
    tree = node(0, 1)
    modifier = hierarchy_modifier(tree)
    tree.children.clear()
    tree.feature_index = 1
    assert modifier(torch.tensor([[0.0, 1.0]])).tolist() == [[0.0, 0.0]]
