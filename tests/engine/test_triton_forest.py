"""Forests on the triton backend: bit for bit what the reference makes, dense and in lists."""

from __future__ import annotations

import random

import pytest
import torch

from synthkern import HierarchyNode as Node, SparseActivations
from synthkern.engine import reference
from synthkern.engine.reference import forest as reference_forest
from synthkern.engine.triton import forest as triton_forest, forest_kernels
from synthkern.engine.triton.forest import apply_forest_csr, apply_forest_dense, apply_forest_sparse
from synthkern.engine.triton.launch import position_on, recording
from synthkern.plan import Forest, compile_forest

DTYPES = [torch.float32, torch.float64]

#: The interpreter's arithmetic warns where a product overflows, or would in a lane that is dropped.
numpy_says_what_it_meets = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value) encountered:RuntimeWarning"
)


@pytest.fixture(params=["many samples", "one sample"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs as the interpreter takes them; and of one sample as on a GPU, in small tiles."""
    if request.param == "one sample":
        monkeypatch.setattr(triton_forest, "SAMPLES", 1)
        monkeypatch.setattr(triton_forest, "_DENSE_TILE", 16)
        monkeypatch.setattr(triton_forest, "_LIST_TILE", 16)


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view({4: torch.int32, 8: torch.int64}[values.element_size()])


def random_forest(
    seed: int, num_features: int, *, exclusive: float = 0.5, scale: float = 0.5
) -> Forest:
    """Trees over most of the features in random order, a fifth of the nodes organisational."""
    draw = random.Random(seed)
    features = draw.sample(range(num_features), num_features * 9 // 10)
    roots: list[Node] = []
    open_nodes: list[Node] = []
    while features:
        if not open_nodes or draw.random() < 0.05:
            siblings = roots
        else:
            siblings = draw.choice(open_nodes[-12:]).children
        for _ in range(min(len(features), draw.choice([1, 2, 2, 3, 7]))):
            feature = None if draw.random() < 0.2 else features.pop()
            node = Node(feature, scale_children_by_parent=draw.random() < scale)
            siblings.append(node)
            open_nodes.append(node)
    for node in open_nodes:
        node.mutually_exclusive_children = len(node.children) > 1 and draw.random() < exclusive
    below = roots[: len(roots) // 2]
    above = Node(None, below, mutually_exclusive_children=exclusive > 0 and len(below) > 1)
    return compile_forest([above, *roots[len(roots) // 2 :]])


def random_rows(seed: int, batch: int, n: int, dtype: torch.dtype) -> torch.Tensor:
    """Ordinary numbers, most above zero; and zeros of both signs, denormals and huge numbers."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batch, n, generator=generator, dtype=torch.float64) + 0.8
    info = torch.finfo(dtype)
    tiny, huge = info.tiny, info.max
    odd = torch.tensor([0, -0.0, tiny / 8, -tiny, huge, -huge, 1e-20], dtype=torch.float64)
    which = torch.randint(0, 4 * odd.numel(), (batch, n), generator=generator)
    rows = torch.where(which < odd.numel(), odd[which % odd.numel()], rows)
    return rows.to(dtype)


def means_of(seed: int, n: int) -> torch.Tensor:
    means = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.25
    means[::7] *= 1e-30
    means[3::7] *= 1e30
    return means


def check(
    forest: Forest,
    rows: torch.Tensor,
    means: torch.Tensor | None = None,
    *,
    seed: int = 7,
    start: int = 0,
    ordinal: int = 0,
) -> torch.Tensor:
    """Applies a forest in every way, compares to the bit and gives what came out."""
    place = (means, seed, start, ordinal)
    before = rows.clone()
    expected = reference.BACKEND.apply_forest_dense(forest, rows, *place)
    out = apply_forest_dense(forest, rows, *place)
    assert out.dtype == rows.dtype
    differs = (bits(out) != bits(expected)).nonzero()
    assert differs.numel() == 0, f"dense differs at {differs[:10].tolist()}"
    given = SparseActivations.from_dense(rows)
    values = given.values.clone()
    got = apply_forest_sparse(forest, given, *place)
    assert torch.equal(bits(rows), bits(before)), "the input was changed"
    assert torch.equal(bits(given.values), bits(values)), "the input was changed"
    wanted = SparseActivations.from_dense(expected)
    assert torch.equal(got.offsets, wanted.offsets)
    assert torch.equal(got.indices, wanted.indices)
    assert torch.equal(bits(got.values), bits(wanted.values))
    assert got.shape == rows.shape
    return out


@numpy_says_what_it_meets
@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(("seed", "dtype"), [(1, torch.float32), (2, torch.float64)])
def test_random_forests(seed: int, dtype: torch.dtype) -> None:
    n = 61
    forest = random_forest(seed, n)
    assert forest.scales
    assert int(forest.group.max()) > 2
    assert int((forest.group[: forest.num_roots] >= 0).sum()) > 1
    out = check(forest, random_rows(seed, 5, n, dtype), means_of(seed, n), ordinal=seed)
    assert bool(out.isinf().any())  # products that overflow were among them


@numpy_says_what_it_meets
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_batch_whose_indices_wrap(dtype: torch.dtype) -> None:
    rows = random_rows(3, 300, 97, dtype)
    rows[7] = 0
    check(
        random_forest(3, 97),
        rows,
        means_of(3, 97),
        seed=2**64 - 5,
        start=2**64 - 123,
        ordinal=2**32 - 17,
    )


@pytest.mark.parametrize(("exclusive", "scale"), [(0.0, 0.0), (0.0, 0.6), (0.6, 0.0)])
def test_forests_without_groups_or_scaling(exclusive: float, scale: float) -> None:
    forest = random_forest(4, 80, exclusive=exclusive, scale=scale)
    assert bool((forest.group >= 0).any()) == (exclusive > 0)
    assert forest.scales == (scale > 0)
    rows = random_rows(4, 20, 80, torch.float32).clamp(-1e3, 1e3)
    check(forest, rows, torch.full((80,), 0.75) if scale else None)


def test_a_scaling_forest_without_means_gates_alone() -> None:
    forest = random_forest(5, 40)
    check(forest, random_rows(5, 9, 40, torch.float32))


@pytest.mark.usefixtures("tiles")
def test_a_tie_goes_to_the_lowest_node(monkeypatch: pytest.MonkeyPatch) -> None:
    block, words = forest_kernels.block, reference_forest.priority_words

    def tied_block(purpose, element, low, high, key_low, key_high):  # type: ignore[no-untyped-def]
        return block(purpose, element >> 3, low, high, key_low, key_high)

    def tied_words(features, index, seed, ordinal):  # type: ignore[no-untyped-def]
        return words(features >> 3, index, seed, ordinal)

    monkeypatch.setattr(forest_kernels, "block", tied_block)
    monkeypatch.setattr(reference_forest, "priority_words", tied_words)
    features = list(range(50))
    random.Random(2).shuffle(features)
    forest = compile_forest(
        [
            Node(None, [Node(j) for j in features[:20]], mutually_exclusive_children=True),
            Node(None, [Node(j) for j in features[20:45]], mutually_exclusive_children=True),
        ]
    )
    rows = torch.rand(6, 50, generator=torch.Generator().manual_seed(1)) - 0.2
    rows[0], rows[1] = 1, -1
    out = check(forest, rows)
    assert int((out[0] > 0).sum()) == 2 + 5
    assert torch.equal(out[1], rows[1])


def test_later_samples_of_a_program_do_not_see_earlier_contests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_forest, "SAMPLES", 1)
    monkeypatch.setattr(triton_forest, "_MEMORY", 1)  # room for one program
    forest = random_forest(6, 30, exclusive=1.0)
    with recording() as launches:
        apply_forest_dense(forest, torch.ones(9, 30), None, 0, 0, 0)
    assert [launch.grid for launch in launches] == [(1,)]
    check(forest, random_rows(6, 9, 30, torch.float32).clamp(-9, 9), torch.ones(30))


@pytest.mark.parametrize(("batch", "n"), [(3, 5), (0, 5), (3, 0), (0, 0)])
def test_a_forest_without_nodes_changes_nothing(batch: int, n: int) -> None:
    forest = compile_forest([])
    rows = torch.randn(batch, n, generator=torch.Generator().manual_seed(1))
    assert torch.equal(check(forest, rows), rows)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
def test_a_chain_of_more_levels_than_a_tile_has_nodes(order: str) -> None:
    n = 35
    features = list(range(n))
    if order == "descending":
        features.reverse()
    if order == "mixed":
        random.Random(1).shuffle(features)
    rows = torch.ones(3, n)
    rows[1, features[n // 2]] = 0
    rows[2, features[n // 3]] = -1
    out = check(chain(features), rows, torch.full((n,), 0.5))
    assert out.count_nonzero(dim=1).tolist() == [n, n // 2, n // 3 + 1]


def test_thousands_of_levels_of_which_few_occur_in_a_list() -> None:
    n = 5000
    features = list(range(n))
    rows = torch.zeros(2, n)
    rows[0, :20] = 1
    rows[0, 21::2] = 1  # orphans
    rows[1, 1::2] = 1
    got = apply_forest_sparse(chain(features), SparseActivations.from_dense(rows), None, 0, 0, 0)
    assert got.offsets.tolist() == [0, 20, 20]
    assert got.indices.tolist() == list(range(20))


def chain(features: list[int]) -> Forest:
    """One below the other; every fifth is scaled."""
    node = Node(features[-1])
    for j in reversed(features[:-1]):
        node = Node(j, [node], scale_children_by_parent=j % 5 == 0)
    return compile_forest([node])


def test_groups_of_two_and_of_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_forest, "SAMPLES", 4)
    monkeypatch.setattr(triton_forest, "_DENSE_TILE", 2048)
    monkeypatch.setattr(triton_forest, "_LIST_TILE", 2048)
    n = 10_003
    forest = compile_forest(
        [
            Node(0, [Node(j) for j in range(3, n)], mutually_exclusive_children=True),
            Node(None, [Node(1), Node(2)], mutually_exclusive_children=True),
        ]
    )
    rows = torch.zeros(4, n)
    rows[0] = 1
    rows[1, 0], rows[1, 5000:] = 1, -1
    rows[2, 1:] = 1
    rows[3] = torch.randn(n, generator=torch.Generator().manual_seed(1))
    rows[3, 0] = 1
    out = check(forest, rows)
    assert (out > 0)[:, 3:].sum(dim=1).tolist() == [1, 0, 0, 1]
    assert (out > 0)[:3, 1:3].sum(dim=1).tolist() == [1, 0, 1]


def test_stored_zeros_are_dropped() -> None:
    forest = compile_forest([Node(0, [Node(1)])])
    given = SparseActivations(
        torch.tensor([0, 3, 5]),
        torch.tensor([0, 1, 2, 1, 2], dtype=torch.int32),
        torch.tensor([1.0, 0.0, -0.0, 2.0, 3.0]),
        3,
    )
    got = apply_forest_sparse(forest, given, None, 0, 0, 0)
    assert got.offsets.tolist() == [0, 1, 2]
    assert got.indices.tolist() == [0, 2]
    assert got.values.tolist() == [1.0, 3.0]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("dtype", DTYPES)
def test_lists_anywhere_in_memory(dtype: torch.dtype) -> None:
    """Samples in any order, with room between them that is neither read nor written."""
    n, batch, ordinal, start = 45, 9, 3, 2**64 - 4
    forest, means = random_forest(9, n), torch.full((n,), 1.5)
    rows = random_rows(9, batch, n, dtype).clamp(-99, 99)
    rows[4] = 0
    lists = SparseActivations.from_dense(rows)
    count = lists.offsets.diff().int()
    room = 50 * batch
    indices = torch.full((room,), -(2**31), dtype=torch.int32)
    values = torch.full((room,), torch.nan, dtype=dtype)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(1))
    begin = 50 * order + order % 5
    expected = values.clone()
    applied = reference.BACKEND.apply_forest_dense(forest, rows, means, 5, start, ordinal)
    for b in range(batch):
        place = slice(int(begin[b]), int(begin[b] + count[b]))
        indices[place], values[place] = lists[b].indices, lists[b].values
        expected[place] = applied[b, lists[b].indices.long()]
    position = position_on(values.device, 5, start)
    held = indices.clone()
    apply_forest_csr(forest, begin, count, indices, values, means, position, ordinal, n)
    assert torch.equal(bits(values), bits(expected))
    assert torch.equal(indices, held)
