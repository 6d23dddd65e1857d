"""Which latents are active: every backend against a plain sort, and the values that come along."""

from __future__ import annotations

import pytest
import torch

from synthkern import engine
from synthkern.sparse import SparseActivations

DTYPES = [torch.float32, torch.float64]
SHAPES = [(0, 5), (1, 1), (3, 31), (2, 33), (17, 257), (5, 1024)]


def numbers(b: int, m: int, dtype: torch.dtype, *, ties: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(b * 1000 + m)
    drawn = torch.randn(b, m, generator=generator, dtype=torch.float64)
    return ((drawn * 2).round() if ties else drawn).to(dtype)


def expected(pre: torch.Tensor, keys: torch.Tensor, places: list[list[int]]) -> torch.Tensor:
    """pre where one of the places of its row is, else 0; only keys above 0."""
    dense = torch.zeros_like(pre)
    for b, columns in enumerate(places):
        for j in columns:
            if keys[b, j] > 0:
                dense[b, j] = pre[b, j]
    return dense


def check(found: SparseActivations, dense: torch.Tensor) -> None:
    SparseActivations(found.offsets, found.indices, found.values, dense.shape[1])
    assert bool((found.values != 0).all())
    assert torch.equal(found.to_dense(), dense)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("k", [0, 1, 7, 300])
@pytest.mark.parametrize("scaled", [False, True])
def test_topk_of_a_sample(
    backend: str, shape: tuple[int, int], k: int, scaled: bool, ties: bool, dtype: torch.dtype
) -> None:
    pre = numbers(*shape, dtype, ties=ties)
    scale = (torch.arange(shape[1]) % 3 + 0.5).to(dtype) if scaled else None
    keys = pre if scale is None else pre * scale
    places = [sorted(range(shape[1]), key=lambda j: (-float(row[j]), j))[:k] for row in keys]
    check(engine.select_topk(pre, k, scale=scale), expected(pre, keys, places))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 5), (3, 31), (5, 257)], ids=str)
@pytest.mark.parametrize("k", [0, 7, 300])
@pytest.mark.parametrize("scaled", [False, True])
def test_largest_magnitudes_of_a_sample_keep_their_signs(
    backend: str, shape: tuple[int, int], k: int, scaled: bool, dtype: torch.dtype
) -> None:
    pre = numbers(*shape, dtype, ties=True)
    scale = (torch.arange(shape[1]) % 3 + 0.5).to(dtype) if scaled else None
    keys = (pre if scale is None else pre * scale).abs()
    places = [sorted(range(shape[1]), key=lambda j: (-float(row[j]), j))[:k] for row in keys]
    found = engine.select_topk(pre, k, scale=scale, magnitude=True)
    check(found, expected(pre, keys, places))


def check_batch(b: int, m: int, share: float, scaled: bool, ties: bool, dtype: torch.dtype) -> None:
    pre = numbers(b, m, dtype, ties=ties)
    scale = (torch.arange(m) % 3 + 0.5).to(dtype) if scaled else None
    keys = pre if scale is None else pre * scale
    count = int(share * b * m)
    order = keys.flatten().argsort(descending=True, stable=True)[:count]
    chosen = torch.zeros(b * m, dtype=torch.bool)
    chosen[order] = True
    dense = torch.where(chosen.view(b, m) & (keys > 0), pre, 0)
    check(engine.select_batch_topk(pre, count, scale=scale), dense)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_topk_of_a_batch(
    backend: str, shape: tuple[int, int], share: float, scaled: bool, ties: bool, dtype: torch.dtype
) -> None:
    check_batch(*shape, share, scaled, ties, dtype)


@pytest.mark.many_samples
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_topk_of_a_large_batch(
    backend: str, share: float, scaled: bool, ties: bool, dtype: torch.dtype
) -> None:
    check_batch(300, 1024, share, scaled, ties, dtype)


@pytest.mark.many_samples
def test_a_batch_whose_large_numbers_are_where_the_sample_looks(backend: str) -> None:
    """The guess of the bound is then far too high, and the second pass finds the rest."""
    pre = torch.full((300, 1024), 0.5)
    flat = pre.view(-1)
    for first in range(0, flat.numel(), 16 * 61):
        flat[first : first + 16] = 2.0
    count = 100_000
    found = engine.select_batch_topk(pre, count)
    assert found.nnz == count
    assert int((found.values == 2).sum()) == int((flat == 2).sum())


def test_not_only_positive_ones(backend: str) -> None:
    pre = torch.tensor([[-3.0, -1.0, -2.0, -1.0], [5.0, -1.0, 0.0, -7.0]])
    found = engine.select_topk(pre, 2, positive=False)
    assert found.indices.tolist() == [1, 3, 0, 2]
    assert found.values.tolist() == [-1.0, -1.0, 5.0, 0.0]
    found = engine.select_batch_topk(pre, 4, positive=False)
    assert found.offsets.tolist() == [0, 2, 4]
    assert found.indices.tolist() == [1, 3, 0, 2]
    assert engine.select_batch_topk(pre, 8, positive=False).nnz == 8


@pytest.mark.many_samples
def test_a_batch_is_filled_up_with_negative_ones(backend: str) -> None:
    """A batch so large that the bound is guessed."""
    pre = torch.randn(300, 1024, generator=torch.Generator().manual_seed(0)) - 3
    count = pre.numel() // 2
    found = engine.select_batch_topk(pre, count, positive=False)
    least = pre.flatten().sort(descending=True).values[count - 1]
    check(found, torch.where(pre >= least, pre, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_above_bounds(backend: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    pre = numbers(*shape, dtype, ties=True) + 0.25
    bounds = (torch.arange(shape[1]) % 4 - 1).to(dtype) + 0.25
    check(engine.select_above(pre, bounds), torch.where(pre > bounds, pre, 0))


#: Both zeros, both infinities, NaN of both signs, subnormals and the largest numbers.
ODD = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, -torch.nan, 1e-45, -1e-45, 3e38, -3e38, 1, -1]


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered in multiply")
@pytest.mark.parametrize("scaled", [False, True])
def test_numbers_that_no_sort_gets_right_by_itself(backend: str, scaled: bool) -> None:
    """The reference is what says, bit for bit."""
    generator = torch.Generator().manual_seed(3)
    pre = torch.tensor(ODD)[torch.randint(len(ODD), (6, 37), generator=generator)]
    scale = torch.tensor([1.0, 2.0, 0.0])[torch.arange(37) % 3] if scaled else None
    bounds = torch.tensor(ODD)[torch.arange(37) % len(ODD)]
    steps = engine.backend_named(backend)
    reference = engine.backend_named("reference")
    for k, positive in ((1, True), (9, True), (37, True), (1, False), (20, False), (37, False)):
        for magnitude in (False, True):
            wanted = reference.select_topk(pre, scale, k, positive, magnitude)
            assert_same(steps.select_topk(pre, scale, k, positive, magnitude), wanted)
    for count in (1, 60, 222):
        for positive in (True, False):
            wanted = reference.select_batch_topk(pre, scale, count, positive)
            assert_same(steps.select_batch_topk(pre, scale, count, positive), wanted)
    assert_same(steps.select_above(pre, bounds), reference.select_above(pre, bounds))


def test_magnitudes_by_hand(backend: str) -> None:
    """Of equal ones the first, whatever their signs; what is 0 where all are asked for."""
    pre = torch.tensor([[-3.0, 3.0, 2.0, -4.0], [0.0, -0.0, -1.0, torch.nan]])
    found = engine.select_topk(pre, 2, magnitude=True)
    assert found.indices.tolist() == [0, 3, 2, 3]
    assert found.values[:3].tolist() == [-3.0, -4.0, -1.0]
    found = engine.select_topk(pre[1:], 3, magnitude=True)
    assert found.indices.tolist() == [2, 3]
    found = engine.select_topk(pre[1:], 3, magnitude=True, positive=False)
    assert found.indices.tolist() == [0, 2, 3]


def assert_same(found: SparseActivations, wanted: SparseActivations) -> None:
    assert found.shape == wanted.shape
    for name in ("offsets", "indices"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other), name
    assert found.dtype == wanted.dtype
    assert torch.equal(found.values.view(torch.int32), wanted.values.view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_chosen_from_as_float32(backend: str, dtype: torch.dtype) -> None:
    pre, scale = numbers(3, 70, dtype), (torch.arange(70) % 3 + 0.3).to(dtype)
    wide = pre.float(), scale.float()
    assert_same(
        engine.select_topk(pre, 9, scale=scale), engine.select_topk(wide[0], 9, scale=wide[1])
    )
    assert_same(
        engine.select_batch_topk(pre, 30, scale=scale),
        engine.select_batch_topk(wide[0], 30, scale=wide[1]),
    )
    assert_same(engine.select_above(pre, scale), engine.select_above(*wide))


def test_what_is_not_laid_out_row_by_row(backend: str) -> None:
    pre = numbers(41, 6, torch.float32, ties=True)
    assert_same(engine.select_topk(pre.T, 9), engine.select_topk(pre.T.contiguous(), 9))
    assert_same(
        engine.select_batch_topk(pre.T, 50), engine.select_batch_topk(pre.T.contiguous(), 50)
    )
    bounds = torch.zeros(82)[::2]
    assert_same(engine.select_above(pre.T, bounds), engine.select_above(pre.T.contiguous(), bounds))


def test_every_instruction_set_chooses_the_same(instruction_set: str) -> None:
    pre, scale = numbers(64, 1023, torch.float32), torch.rand(1023) + 0.5
    reference = engine.backend_named("reference")
    for found, other in (
        (engine.select_topk(pre, 9, scale=scale), reference.select_topk(pre, scale, 9, True)),
        (
            engine.select_topk(pre, 9, scale=scale, magnitude=True),
            reference.select_topk(pre, scale, 9, True, True),
        ),
        (engine.select_batch_topk(pre, 77), reference.select_batch_topk(pre, None, 77, True)),
        (engine.select_above(pre, scale), reference.select_above(pre, scale)),
    ):
        assert_same(found, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 31), (1024, 520)], ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_half_precision_is_selected_as_the_same_numbers_in_float32_are(
    backend: str, shape: tuple[int, int], scaled: bool, dtype: torch.dtype
) -> None:
    b, m = shape
    if b > 100 and backend != "cpu":
        b = 3  # what is guessed of large batches is the core's
    pre = numbers(b, m, dtype)
    if pre.numel() > 30:
        pre.view(-1)[3:6] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        pre.view(-1)[6:8] = torch.tensor([-0.0, torch.finfo(dtype).smallest_normal / 2])
    bounds = (torch.arange(m) % 3 - 0.5).to(dtype)
    scale = bounds + 1 if scaled else None
    wide = None if scale is None else scale.float()
    layouts = (pre, True), (pre.T.contiguous().T, False)
    for of, positive in layouts:
        ways = {"positive": positive}
        pairs = [
            (
                engine.select_topk(of, 3, scale=scale, **ways),
                engine.select_topk(pre.float(), 3, scale=wide, **ways),
            ),
            (
                engine.select_topk(of, 3, scale=scale, magnitude=True, **ways),
                engine.select_topk(pre.float(), 3, scale=wide, magnitude=True, **ways),
            ),
            (
                engine.select_batch_topk(of, 4 * b, scale=scale, **ways),
                engine.select_batch_topk(pre.float(), 4 * b, scale=wide, **ways),
            ),
            (engine.select_above(of, bounds), engine.select_above(pre.float(), bounds.float())),
        ]
        for found, wanted in pairs:
            assert found.dtype == torch.float32
            assert torch.equal(found.offsets, wanted.offsets)
            assert torch.equal(found.indices, wanted.indices)
            bits = found.values.view(torch.int32), wanted.values.view(torch.int32)
            assert torch.equal(*bits)
