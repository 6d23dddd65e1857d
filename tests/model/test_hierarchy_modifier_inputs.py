"""The hierarchy modifier on inputs of every make: layouts, dtypes, gradients, sizes, mistakes."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from test_hierarchy_modifier import KINDS, dense_of, kinds, node

import synthkern as synthetic
from synthkern import ActivationGenerator, HierarchyNode, SparseActivations, hierarchy_modifier

#: Scaling, an exclusive group and a feature outside (6); N = 7.
TREES = [node(0, node(1, 4, 5, one=True), node(2, 3), scale=True)]
MEANS = torch.tensor([2.0, 1.5, 3.0, 1.0, 0.7, 0.3, 1.0])
WORLD = ActivationGenerator(7, 0.5, mean_firing_magnitudes=MEANS)


def _rows(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    rows = torch.randn(count, 7, generator=torch.Generator().manual_seed(3)) + 0.7
    return (rows * (rows.abs() > 0.3)).to(dtype)


@pytest.mark.usefixtures("backend")
@kinds
@pytest.mark.parametrize("batch", [0, 1, 3, 131])
def test_batches_of_odd_sizes(kind: str, batch: int) -> None:
    modifier = hierarchy_modifier(TREES)
    whole = modifier(_rows(131), WORLD, seed=5)
    out = modifier(KINDS[kind](_rows(131)[:batch]), WORLD, seed=5)
    assert type(out) is type(KINDS[kind](_rows(1)))
    assert tuple(out.shape) == (batch, 7)
    assert torch.equal(dense_of(out), whole[:batch])


@pytest.mark.usefixtures("backend")
def test_views_that_are_not_contiguous() -> None:
    modifier, rows = hierarchy_modifier(TREES), _rows(9)
    expected = modifier(rows, WORLD, seed=5)
    wide = torch.full((9, 20), math.nan)  # what lies between must not be looked at
    wide[:, 1:15:2] = rows
    for view in (rows.T.contiguous().T, wide[:, 1:15:2], rows.repeat_interleave(2, 0)[::2]):
        assert not view.is_contiguous()
        assert torch.equal(modifier(view, WORLD, seed=5), expected)
    part = SparseActivations.from_dense(rows)[2:7]
    assert torch.equal(modifier(part, WORLD, seed=5, start=2).to_dense(), expected[2:7])
    one = rows[:1].expand(9, 7)
    assert torch.equal(modifier(one, WORLD, seed=5), modifier(one.clone(), WORLD, seed=5))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@kinds
def test_half_precision_is_computed_in_float32_and_rounded_once(
    kind: str, dtype: torch.dtype
) -> None:
    modifier, rows = hierarchy_modifier(TREES), _rows(200, dtype)
    expected = modifier(rows.float(), WORLD, seed=5).to(dtype)
    assert torch.equal(dense_of(modifier(KINDS[kind](rows), WORLD, seed=5)), expected)


@pytest.mark.usefixtures("backend")
def test_duplicates_of_a_coo_tensor_are_added_before_anything_is_decided() -> None:
    places, values = [[0, 0, 0, 1], [0, 0, 1, 1]], [5.0, -6.0, 3.0, 4.0]
    given = torch.sparse_coo_tensor(places, values, (2, 2), check_invariants=True)
    out = hierarchy_modifier(node(0, 1))(given)
    assert out.is_coalesced()
    assert out.to_dense().tolist() == [[-1.0, 0.0], [0.0, 0.0]]
    assert out.indices().tolist() == [[0], [0]]  # what became zero is not stored
    assert not given.is_coalesced()


@pytest.mark.usefixtures("backend")
@kinds
def test_seed_and_start_decide_the_choices_and_splits_do_not(kind: str) -> None:
    modifier, rows = hierarchy_modifier(TREES), _rows(200)
    start = 2**64 - 123

    def apply(begin: int, end: int, **place: int) -> torch.Tensor:
        return dense_of(modifier(KINDS[kind](rows[begin:end]), WORLD, **place))

    whole = apply(0, 200, seed=9, start=start)
    assert torch.equal(apply(0, 200, seed=9, start=start), whole)
    for begin, end in ((0, 1), (1, 64), (64, 300), (300, 200)):
        part = apply(begin, end, seed=9, start=(start + begin) % 2**64)
        assert torch.equal(part, whole[begin:end])
    for other in (
        {"seed": 10, "start": start},
        {"seed": 9 + 2**32, "start": start},
        {"seed": 9, "start": 0},
        {"seed": 9, "start": start, "ordinal": 1},
    ):
        assert not torch.equal(apply(0, 200, **other), whole)


@pytest.mark.usefixtures("backend")
@kinds
def test_without_a_seed_torch_manual_seed_reproduces(kind: str) -> None:
    modifier, given = hierarchy_modifier(TREES), KINDS[kind](_rows(200))
    torch.manual_seed(4)
    first, second = (dense_of(modifier(given, WORLD)) for _ in range(2))
    torch.manual_seed(4)
    assert torch.equal(dense_of(modifier(given, WORLD)), first)
    assert torch.equal(dense_of(modifier(given, WORLD)), second)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    modifier(given, WORLD, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("backend")
def test_gradients_follow_what_was_kept_and_scaled() -> None:
    modifier = hierarchy_modifier(TREES)
    rows = _rows(12, torch.float64)
    # Away from 0, where what is active would change within a finite difference.
    rows = torch.where(rows == 0, 0.4, rows).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: modifier(a, WORLD, seed=5), (rows,))
    out = modifier(rows, WORLD, seed=5)
    assert torch.equal(out.detach(), modifier(rows.detach(), WORLD, seed=5))
    out.sum().backward()
    coo = rows.detach().to_sparse_coo().requires_grad_()
    modifier(coo, WORLD, seed=5).to_dense().sum().backward()
    assert torch.equal(coo.grad.to_dense(), rows.grad)


def test_gradients_by_hand() -> None:
    # out = (x0, x1 * x0 / 2, x2 * (x1 * x0 / 2) / 1.5, 0)
    x = torch.tensor([[4.0, 3.0, 5.0, -1.0, 2.0]], requires_grad=True)
    modifier = hierarchy_modifier([node(0, node(1, 2, scale=True), scale=True), node(3, 4)])
    means = torch.tensor([2.0, 1.5, 1.0, 1.0, 1.0])
    modifier(x, ActivationGenerator(5, 0.5, 0.0, means)).sum().backward()
    # d/dx0 = 1 + x1 / 2 + x2 x1 / 3; d/dx1 = x0 / 2 + x2 x0 / 3; d/dx2 = x1 x0 / 3; 3 stays; 4 is 0
    expected = [1 + 1.5 + 5, 2 + 20 / 3, 4, 1, 0]
    torch.testing.assert_close(x.grad, torch.tensor([expected]))


def test_gradients_where_an_unscaling_parent_has_mean_zero() -> None:
    trees = [node(0, node(1), scale=True), node(2, node(3))]
    means = torch.tensor([1.0, 1.0, 0.0, 1.0])
    generator = ActivationGenerator(4, 0.5, mean_firing_magnitudes=means)
    activations = torch.tensor([[2.0, 3.0, 4.0, 5.0]], requires_grad=True)
    hierarchy_modifier(trees)(activations, generator).sum().backward()
    assert activations.grad is not None
    assert activations.grad.tolist() == [[4.0, 2.0, 1.0, 1.0]]


@pytest.mark.usefixtures("backend")
@kinds
def test_a_silent_child_stays_silent_however_small_the_mean(kind: str) -> None:
    means = torch.tensor([1e-30, 1.0])
    generator = ActivationGenerator(2, 0.5, mean_firing_magnitudes=means)
    modifier = hierarchy_modifier(node(0, node(1), scale=True))
    out = modifier(KINDS[kind](torch.tensor([[1e10, 0.0], [1.0, 2e-30]])), generator)
    assert dense_of(out)[0].tolist() == torch.tensor([1e10, 0.0]).tolist()
    assert dense_of(out)[1, 1] == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["dense", "coo"])
def test_ties_are_uniform_in_the_whole_of_a_large_batch(kind: str) -> None:
    """200,000 rows of five equal siblings, looked at as a whole and in both halves."""
    rows = torch.ones(200_000, 6)
    modifier = hierarchy_modifier(node(0, 1, 2, 3, 4, 5, one=True))
    stays = dense_of(modifier(KINDS[kind](rows), seed=2))[:, 1:]
    assert bool((stays.sum(dim=1) == 1).all())
    for part in (stays, stays[:100_000], stays[100_000:]):
        assert chisquare(part.sum(dim=0).numpy()).pvalue > 1e-3


def test_a_chain_of_a_hundred_thousand_nodes() -> None:
    n = 100_000
    chain = HierarchyNode(n - 1)
    for j in range(n - 2, -1, -1):
        chain = HierarchyNode(j, [chain])
    modifier = hierarchy_modifier(chain)
    rows = torch.ones(3, n)
    rows[1, n // 2] = 0
    rows[2, 0] = -1
    expected = torch.zeros(3, n)
    expected[0] = 1
    expected[1, : n // 2] = 1
    expected[2, 0] = -1
    for to_kind in KINDS.values():
        assert torch.equal(dense_of(modifier(to_kind(rows))), expected)
    world = ActivationGenerator(n, 1.0, modify_activations=modifier)
    assert world.sample_sparse(2, seed=1).nnz == 2 * n


def test_a_forest_of_a_million_nodes() -> None:
    n, roots = 1_000_000, 200_000
    recipe = synthetic.HierarchyConfig(roots, 4, 1, mutually_exclusive_portion=1.0)
    modifier = synthetic.generate_hierarchy(n, recipe, seed=1).modifier
    assert modifier is not None
    assert modifier.forest.num_nodes == n
    # Root r has the children roots + 4 r ... roots + 4 r + 3. All roots but those ending in 7.
    row = torch.ones(1, n)
    row[0, 7:roots:10] = 0
    kept = [dense_of(modifier(to_kind(row), seed=1)) for to_kind in KINDS.values()]
    assert all(torch.equal(k, kept[0]) for k in kept)
    families = kept[0][0, roots:].reshape(roots, 4).sum(dim=1)
    assert torch.equal(families, row[0, :roots])
    sample = ActivationGenerator(n, 0.001, modify_activations=modifier).sample_sparse(4, seed=1)
    # Roots fire with 0.001, and children need one: 200 roots and one child a sample.
    assert abs(sample.nnz - 4 * 201) < 6 * math.sqrt(4 * 201)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("feature", [0, 3, 6])  # a root, a leaf, outside the trees
def test_what_is_not_finite_is_refused_with_its_place(
    bad: float, dtype: torch.dtype, feature: int
) -> None:
    rows = torch.ones(20, 7, dtype=dtype)
    rows[13, feature] = bad
    modifier = hierarchy_modifier(TREES)
    message = re.escape(f"activations must be finite, got {bad} at ")
    with pytest.raises(ValueError, match=message + re.escape(f"[13, {feature}]")):
        modifier(rows, WORLD)
    for kind in ("coo", "csr"):
        with pytest.raises(ValueError, match=message):
            modifier(KINDS[kind](rows), WORLD)


def _coo(*shape: int) -> torch.Tensor:
    return torch.ones(shape).to_sparse_coo()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (torch.ones(7), "activations must have shape [B, N], got [7]"),
        (torch.ones(2, 3, 7), "activations must have shape [B, N], got [2, 3, 7]"),
        (_coo(2, 3, 7), "activations must have shape [B, N], got [2, 3, 7]"),
        (torch.ones(2, 7, dtype=torch.int64), "floating point, got torch.int64"),
        (torch.ones(2, 7, dtype=torch.complex64), "floating point, got torch.complex64"),
        (torch.ones(2, 5), "features below num_features = 5, got feature 5"),
        (_coo(2, 5), "features below num_features = 5, got feature 5"),
        (SparseActivations.from_dense(torch.ones(2, 5)), "num_features = 5, got feature 5"),
        (torch.ones(2, 8), "generator must have num_features = 8 as the activations, got 7"),
    ],
)
def test_activations_of_a_wrong_make_are_refused(activations: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        hierarchy_modifier(TREES)(activations, WORLD)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_layouts_other_than_dense_and_coo_are_refused() -> None:
    csr = SparseActivations.from_dense(_rows(3)).to_sparse_csr()
    with pytest.raises(ValueError, match=r"dense or sparse COO, got layout torch\.sparse_csr"):
        hierarchy_modifier(TREES)(csr, WORLD)
    with pytest.raises(TypeError, match=r"activations must be a tensor, got \[\[1.0\]\]"):
        hierarchy_modifier(TREES)([[1.0]], WORLD)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"generator": None}, ValueError, "generator must be given where parents scale"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": 2**64}, ValueError, f"got {2**64}"),
        ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
        ({"start": -1}, ValueError, "start must be an integer >= 0"),
        ({"start": 2**64}, ValueError, f"got {2**64}"),
        ({"start": True}, TypeError, "start must be an integer, got True"),
        ({"ordinal": -1}, ValueError, "ordinal must be an integer >= 0"),
        ({"ordinal": 2**32 - 16}, ValueError, f"got {2**32 - 16}"),
        ({"ordinal": 0.5}, TypeError, "ordinal must be an integer, got 0.5"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_arguments_out_of_range_are_refused(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        hierarchy_modifier(TREES)(_rows(2), **{"generator": WORLD, **arguments})


@pytest.mark.parametrize("mean", [0.0, -2.0])
def test_means_that_cannot_divide_are_refused(mean: float) -> None:
    world = ActivationGenerator(7, 0.5, mean_firing_magnitudes=mean)
    with pytest.raises(ValueError, match=rf"> 0 where a parent scales.*got {mean} at \[0\]"):
        hierarchy_modifier(TREES)(_rows(2), world)
