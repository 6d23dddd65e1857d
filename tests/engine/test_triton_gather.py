"""Triton's dictionary kernels against the reference and the core, in Triton's interpreter."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from synthkern import SparseActivations
from synthkern.engine import MODES, GatherMode, cpu, reference
from synthkern.engine.reference.gather import fma
from synthkern.engine.triton.gather import (
    bfloat16_copy,
    gather,
    gather_grad_values,
    gather_grad_vectors,
)
from synthkern.engine.triton.launch import recording
from synthkern.engine.triton.select import compress

DTYPES = [torch.float32, torch.float64]

# (B, N, D): nothing, one of each, and odd sizes on both sides of the tiles' (32 to 256
# components, 1 to 8 samples, 8 to 32 entries).
SHAPES = [
    (0, 3, 3),
    (3, 0, 3),
    (3, 3, 0),
    (1, 1, 1),
    (3, 1, 3),
    (9, 7, 32),
    (5, 13, 33),
    (2, 9, 264),
    (2, 5, 513),
]

Case = tuple[SparseActivations, torch.Tensor, torch.Tensor]


def case(b: int, n: int, d: int, dtype: torch.dtype = torch.float32) -> Case:
    """Samples of different numbers of entries, the first without any; vectors and a bias."""
    generator = torch.Generator().manual_seed(b + n + d)
    dense = torch.randn(b, n, generator=generator, dtype=dtype)
    rate = torch.linspace(0, 1, b)[:, None]
    dense = torch.where(torch.rand(b, n, generator=generator) < rate, dense, 0.0)
    vectors = torch.randn(n, d, generator=generator, dtype=dtype)
    bias = torch.randn(d, generator=generator, dtype=dtype)
    return SparseActivations.from_dense(dense), vectors, bias


def assert_same_bits(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    kind = {torch.float32: torch.int32, torch.float64: torch.int64}[got.dtype]
    differs = (got.contiguous().view(kind) != expected.contiguous().view(kind)).nonzero()
    assert not differs.numel(), f"differ at {differs[:10].tolist()}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_hidden_activations_are_the_references_to_the_bit(
    shape: tuple[int, int, int], mode: GatherMode
) -> None:
    given = case(*shape)
    hidden = gather(*given, mode=mode)
    assert_same_bits(hidden, reference.BACKEND.gather(*given, mode=mode))
    assert_same_bits(hidden, cpu.BACKEND.gather(*given, mode=mode))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float64_is_fused_as_in_the_core(shape: tuple[int, int, int]) -> None:
    given = case(*shape, torch.float64)
    for mode in ("exact", "bfloat16"):
        assert_same_bits(gather(*given, mode=mode), cpu.BACKEND.gather(*given, mode=mode))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_signed_zeros_and_what_is_not_finite_go_through(dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    entries = SparseActivations(
        torch.tensor([0, 0, 1, 2, 4, 5]),
        torch.tensor([1, 1, 0, 2, 2], dtype=torch.int32),
        torch.tensor([0.0, 1.0, 1.0, -1.0, nan], dtype=dtype),
        3,
    )
    vectors = torch.tensor([[1.0, inf], [-0.0, inf], [1.0, inf]], dtype=dtype)
    bias = torch.tensor([-0.0, -0.0], dtype=dtype)
    hidden = gather(entries, vectors, bias)
    expected = torch.tensor(
        [[-0.0, -0.0], [-0.0, nan], [-0.0, inf], [0.0, nan], [nan, nan]], dtype=dtype
    )
    torch.testing.assert_close(hidden, expected, rtol=0, atol=0, equal_nan=True)
    assert hidden[:, 0].signbit().tolist()[:4] == [True, True, True, False]
    finite = entries[:4], vectors[:, :1].contiguous(), bias[:1]
    assert_same_bits(gather(*finite), cpu.BACKEND.gather(*finite))


VIEWS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: x.repeat_interleave(2, dim=0)[::2],
    lambda x: torch.stack([x, x], dim=-1)[..., 1],
]


@pytest.mark.parametrize("view", VIEWS, ids=["rows", "columns"])
def test_inputs_need_not_be_contiguous(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    entries, vectors, bias = case(5, 13, 33)
    parts = [view(part) for part in (entries.offsets, entries.indices, entries.values)]
    strided = SparseActivations(*parts, entries.num_features)
    assert not any(part.is_contiguous() for part in (*parts, view(vectors), view(bias)))
    for mode in MODES:
        hidden = gather(strided, view(vectors), view(bias), mode=mode)
        assert_same_bits(hidden, gather(entries, vectors, bias, mode=mode))
    grad = gather(entries, vectors, bias)
    assert_same_bits(gather_grad_vectors(strided, view(grad)), gather_grad_vectors(entries, grad))
    assert_same_bits(
        gather_grad_values(strided, view(vectors), view(grad)),
        gather_grad_values(entries, vectors, grad),
    )
    dense = entries.to_dense()
    assert not view(dense).is_contiguous()
    assert torch.equal(compress(view(dense)).to_dense(), dense)


def test_the_bfloat16_copy_is_kept_until_the_vectors_change() -> None:
    entries, vectors, bias = case(3, 5, 4)
    parameter = torch.nn.Parameter(vectors)
    first = bfloat16_copy(parameter)
    assert torch.equal(first, vectors.bfloat16())
    assert not first.requires_grad
    gather(entries, parameter, bias, mode="bfloat16")
    assert bfloat16_copy(parameter) is first
    assert bfloat16_copy(vectors) is not first

    with torch.no_grad():
        parameter.mul_(2)
    assert torch.equal(bfloat16_copy(parameter), (2 * first.float()).bfloat16())
    parameter.data = torch.full_like(vectors, 3.0)
    assert bool((bfloat16_copy(parameter) == 3).all())
    parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([parameter], lr=1.0).step()
    assert bool((bfloat16_copy(parameter) == 2).all())

    last = weakref.ref(bfloat16_copy(parameter))
    del parameter
    gc.collect()
    assert last() is None

    half = vectors.bfloat16()
    assert bfloat16_copy(half) is half
    with torch.inference_mode():
        uncounted = vectors.clone()
        assert torch.equal(bfloat16_copy(uncounted), half)
        uncounted.zero_()
        assert not bfloat16_copy(uncounted).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_the_vectors_add_up_by_sample(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    entries, _, _ = case(*shape, dtype)
    b, _, d = shape
    grad = torch.randn(b, d, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = gather_grad_vectors(entries, grad)
    turned = SparseActivations.from_dense(entries.to_dense().T)
    assert_same_bits(found, cpu.BACKEND.gather(turned, grad, torch.zeros(d, dtype=dtype)))
    wide = entries.to_dense().double().T
    # b fused steps, each rounded by at most half of eps.
    bound = b * torch.finfo(dtype).eps * (wide.abs() @ grad.double().abs())
    assert bool(((found - wide @ grad.double()).abs() <= bound).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_the_values_are_sums_in_the_stated_order(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    entries, vectors, _ = case(*shape, dtype)
    b, _, d = shape
    grad = torch.randn(b, d, generator=torch.Generator().manual_seed(2), dtype=dtype)
    found = gather_grad_values(entries, vectors, grad)
    rows = vectors[entries.indices.long()], grad[entries.row_indices()]
    wide = rows[0].double(), rows[1].double()
    bound = d * torch.finfo(dtype).eps * (wide[0] * wide[1]).abs().sum(dim=1)
    assert bool(((found - (wide[0] * wide[1]).sum(dim=1)).abs() <= bound).all())
    if dtype == torch.float32:
        assert_same_bits(found, in_order(*rows))


def in_order(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sums of products of rows, as the docstring of gather_grad_values says."""
    width = next(w for w in (32, 64, 128) if w >= a.shape[1] or w == 128)
    sums = torch.zeros(a.shape[0], width)
    for first in range(0, a.shape[1], width):
        lanes = slice(0, min(width, a.shape[1] - first))
        part = slice(first, first + width)
        sums[:, lanes] = fma(a[:, part], b[:, part], sums[:, lanes])
    while sums.shape[1] > 1:
        sums = sums[:, 0::2] + sums[:, 1::2]
    return sums.flatten()


def test_a_stored_zero_has_a_gradient_and_an_infinite_one_stays_in_its_row() -> None:
    entries = SparseActivations(
        torch.tensor([0, 2, 3]),
        torch.tensor([0, 2, 1], dtype=torch.int32),
        torch.tensor([0.0, 1.0, 2.0]),
        3,
    )
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    grad = torch.tensor([[1.0, 0.5], [torch.inf, 1.0]])
    assert gather_grad_values(entries, vectors, grad).tolist() == [2.0, 8.0, torch.inf]
    assert gather_grad_vectors(entries, grad).tolist() == [[0, 0], [torch.inf, 2], [1, 0.5]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(0, 5), (3, 0), (0, 0), (1, 1), (3, 7), (2, 2047), (2, 2048), (2, 2049), (3, 4097)]
)
def test_dense_activations_are_compressed(shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(shape, generator=generator, dtype=dtype)
    dense[torch.rand(shape, generator=generator) < 0.8] = 0.0
    dense[1:2, -1:] = 5.0
    dense[2:] = 0.0
    found, expected = compress(dense), SparseActivations.from_dense(dense)
    assert torch.equal(found.offsets, expected.offsets)
    assert found.offsets.is_contiguous()
    assert torch.equal(found.indices, expected.indices)
    assert found.indices.dtype == torch.int32
    assert_same_bits(found.values, expected.values)
    assert found.shape == shape


def test_a_negative_zero_is_none_and_nan_and_the_smallest_are_entries() -> None:
    dense = torch.tensor([[-0.0, torch.nan, 2.0**-149, 0.0, -torch.inf]])
    found = compress(dense)
    assert found.indices.tolist() == [1, 2, 4]
    torch.testing.assert_close(found.values, dense[0, [1, 2, 4]], equal_nan=True, rtol=0, atol=0)


def test_every_launch_can_be_noted_down_instead() -> None:
    entries, vectors, bias = case(3, 5, 4)
    with recording() as launches:
        compress(entries.to_dense())
        gather(entries, vectors, bias)
        gather_grad_vectors(entries, torch.ones(3, 4))
        gather_grad_values(entries, vectors, torch.ones(3, 4))
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names == ["count_kernel", "fill_kernel", *["gather_kernel"] * 2, "products_kernel"]
    assert all(launch.options["enable_fp_fusion"] is False for launch in launches)
