"""Activations in CSR form: conversions, slices, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import synthkern as synthetic

Sparse = synthetic.SparseActivations

DENSE = torch.tensor(
    [
        [0.0, 1.5, 0.0, -2.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.25, 0.0, 0.0, 0.0],
        [1.0, 2.0, 3.0, 4.0],
    ]
)
OFFSETS = [0, 2, 2, 3, 7]
INDICES = [1, 3, 0, 0, 1, 2, 3]
VALUES = [1.5, -2.0, 0.25, 1.0, 2.0, 3.0, 4.0]

SHAPES = [(4, 5), (1, 1), (0, 3), (3, 0), (0, 0), (1, 1023), (1023, 1)]

# Torch's own notice at the first CSR tensor of a process.
csr_notice = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def make(
    offsets: Any = OFFSETS, indices: Any = INDICES, values: Any = VALUES, n: Any = 4
) -> synthetic.SparseActivations:
    return Sparse(
        torch.tensor(offsets, dtype=torch.int64),
        torch.tensor(indices, dtype=torch.int32),
        torch.tensor(values, dtype=torch.float32),
        n,
    )


def sample(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """About a third of the entries are not zero."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(shape, generator=generator)
    return (values * (torch.rand(shape, generator=generator) < 1 / 3)).to(dtype)


def same(a: synthetic.SparseActivations, b: synthetic.SparseActivations) -> bool:
    """Whether all arrays are the same bits of the same dtype."""
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.offsets, b.offsets)
        and torch.equal(a.indices, b.indices)
        and torch.equal(a.values, b.values)
    )


def test_attributes() -> None:
    activations = make()
    assert activations.shape == torch.Size((4, 4))
    assert activations.batch_size == len(activations) == 4
    assert activations.num_features == 4
    assert activations.nnz == 7
    assert activations.dtype == torch.float32
    assert activations.device == torch.device("cpu")
    assert activations.row_indices().tolist() == [0, 0, 2, 3, 3, 3, 3]
    assert repr(activations) == (
        "SparseActivations(shape=(4, 4), nnz=7, dtype=torch.float32, device='cpu')"
    )


@csr_notice
def test_conversions_by_hand() -> None:
    activations = make()
    assert torch.equal(activations.to_dense(), DENSE)
    coo = activations.to_sparse_coo()
    assert coo.is_coalesced()
    assert coo.indices().tolist() == [[0, 0, 2, 3, 3, 3, 3], INDICES]
    assert coo.values().tolist() == VALUES
    csr = activations.to_sparse_csr()
    assert csr.layout == torch.sparse_csr
    assert csr.crow_indices().tolist() == OFFSETS
    assert csr.col_indices().tolist() == INDICES
    assert csr.values().tolist() == VALUES
    assert same(Sparse.from_dense(DENSE), activations)


@csr_notice
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_round_trips(shape: tuple[int, int], dtype: torch.dtype) -> None:
    dense = sample(shape, dtype)
    activations = Sparse.from_dense(dense)
    # Sound by the class's own account.
    Sparse(activations.offsets, activations.indices, activations.values, shape[1])
    assert activations.shape == shape
    assert activations.dtype == dtype
    assert activations.nnz == int((dense != 0).sum())
    assert torch.equal(activations.to_dense(), dense)
    assert same(Sparse.from_sparse_coo(activations.to_sparse_coo()), activations)
    torch.sparse_coo_tensor(
        activations.to_sparse_coo().indices(),
        activations.to_sparse_coo().values(),
        shape,
        check_invariants=True,
        is_coalesced=True,
    )
    assert torch.equal(activations.to_sparse_coo().to_dense(), dense)
    assert torch.equal(activations.to_sparse_csr().to_dense(), dense)


@csr_notice
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_conversions_to_another_dtype(dtype: torch.dtype) -> None:
    activations = Sparse.from_dense(sample((5, 7)))
    expected = activations.to_dense().to(dtype)
    assert torch.equal(activations.to_dense(dtype), expected)
    assert torch.equal(activations.to_sparse_coo(dtype).to_dense(), expected)
    assert torch.equal(activations.to_sparse_csr(dtype).values(), activations.values.to(dtype))
    converted = activations.to_dtype(dtype)
    assert converted.dtype == dtype
    assert torch.equal(converted.to_dense(), expected)
    assert activations.dtype == torch.float32


def test_from_sparse_coo_adds_up_and_keeps_stored_zeros() -> None:
    places = torch.tensor([[1, 0, 1, 0], [2, 1, 2, 0]])
    values = torch.tensor([1.0, 0.0, 2.0, 5.0])
    coo = torch.sparse_coo_tensor(places, values, (2, 3), check_invariants=True)
    activations = Sparse.from_sparse_coo(coo)
    assert activations.offsets.tolist() == [0, 2, 3]
    assert activations.indices.tolist() == [0, 1, 2]
    assert activations.values.tolist() == [5.0, 0.0, 3.0]
    kept = activations.drop_zeros()
    assert kept.offsets.tolist() == [0, 1, 2]
    assert kept.indices.tolist() == [0, 2]
    assert torch.equal(kept.to_dense(), activations.to_dense())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_drop_zeros(shape: tuple[int, int]) -> None:
    dense = sample(shape)
    everything = Sparse.from_dense(torch.ones(shape))
    stored = Sparse(
        everything.offsets, everything.indices, dense.flatten(), shape[1], validate=False
    )
    assert same(stored.drop_zeros(), Sparse.from_dense(dense))


def test_from_dense_keeps_what_is_not_a_number() -> None:
    activations = Sparse.from_dense(torch.tensor([[0.0, float("nan"), -0.0, float("inf")]]))
    assert activations.indices.tolist() == [1, 3]


def test_dense_conversions_are_differentiable() -> None:
    dense = sample((4, 6), torch.float64).requires_grad_()
    weights = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    (Sparse.from_dense(dense).to_dense() * weights).sum().backward()
    assert dense.grad is not None
    assert torch.equal(dense.grad, torch.where(dense != 0, weights, 0.0))


@pytest.mark.parametrize(
    ("first", "last"), [(0, 4), (1, 3), (None, 2), (-2, None), (2, 2), (3, 1), (-9, 9), (4, 4)]
)
def test_slices_are_samples(first: int | None, last: int | None) -> None:
    part = make()[first:last]
    assert same(part, Sparse.from_dense(DENSE[first:last]))
    Sparse(part.offsets, part.indices, part.values, 4)


def test_a_number_is_one_sample_and_the_samples_can_be_gone_through() -> None:
    activations = make()
    for number in range(-4, 4):
        assert same(activations[number], Sparse.from_dense(DENSE[number][None]))
    assert [one.nnz for one in activations] == [2, 0, 1, 4]
    assert same(Sparse.cat(list(activations)), activations)


def test_slices_share_their_entries() -> None:
    activations = make()
    activations[2:].values[0] = 7.0
    assert float(activations.values[2]) == 7.0


def test_cat_puts_samples_one_after_the_other() -> None:
    parts = [make(), make()[:0], make()[2:]]
    assert same(Sparse.cat(parts), Sparse.from_dense(torch.cat([DENSE, DENSE[2:]])))


def test_to_moves_every_array() -> None:
    moved = make().to("meta")
    assert moved.shape == (4, 4)
    assert {moved.offsets.device, moved.indices.device, moved.device} == {torch.device("meta")}
    assert same(make().to("cpu"), make())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_numpy_arrays_share_the_memory(dtype: torch.dtype) -> None:
    activations = make().to_dtype(dtype)
    activations.values.requires_grad_()
    arrays = activations.numpy()
    assert arrays._fields == ("offsets", "indices", "values")
    for array, tensor in zip(
        arrays, (activations.offsets, activations.indices, activations.values), strict=True
    ):
        assert (array.ctypes.data, array.shape) == (tensor.data_ptr(), tuple(tensor.shape))
    assert [str(array.dtype) for array in arrays] == ["int64", "int32", str(dtype)[6:]]
    assert arrays.indices.tolist() == INDICES
    # A slice is a part of the same memory.
    assert activations[2:].numpy().values.ctypes.data == arrays.values[2:].ctypes.data


def test_numpy_is_refused_where_it_has_no_such_array() -> None:
    wanted = "values must be on the CPU and of another dtype than bfloat16, which NumPy lacks, got "
    for activations, shown in (
        (make().to("meta"), "torch.float32 on meta"),
        (make().to_dtype(torch.bfloat16), "torch.bfloat16 on cpu"),
    ):
        with pytest.raises(ValueError, match=f"^{wanted}{re.escape(shown)}$"):
            activations.numpy()


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (slice(0, 4, 2), ValueError, "samples must be a slice of step 1, got step 2"),
        (slice(None, None, -1), ValueError, "samples must be a slice of step 1, got step -1"),
        (4, IndexError, r"samples must be in \[-4, 4\), got 4"),
        (-5, IndexError, r"samples must be in \[-4, 4\), got -5"),
        (1.0, TypeError, r"samples must be an integer, got 1\.0"),
        (True, TypeError, "samples must be an integer, got True"),
    ],
)
def test_bad_indices_are_refused(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        make()[samples]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": torch.tensor([0, 1], dtype=torch.int32)}, "offsets must .*int32 [2]"),
        ({"offsets": torch.zeros(1, 2, dtype=torch.int64)}, "offsets must .*int64 [1, 2]"),
        ({"offsets": OFFSETS}, f"offsets must .*got {OFFSETS}"),
        ({"offsets": torch.zeros(0, dtype=torch.int64)}, "offsets must hold .*got none"),
        ({"offsets": torch.tensor([0, 6])}, "offsets must ascend from 0 to 7.*got 0 ... 6"),
        ({"offsets": torch.tensor([1, 7])}, "offsets must ascend from 0 to 7.*got 1 ... 7"),
        ({"offsets": torch.tensor([0, 5, 3, 7])}, "offsets must ascend .*got 0 ... 7"),
        ({"indices": torch.tensor(INDICES)}, "indices must .*torch.int32.*got torch.int64 [7]"),
        ({"indices": None}, "indices must .*got None"),
        ({"values": torch.tensor(INDICES)}, "values must be .*got torch.int64 [7]"),
        ({"values": VALUES}, f"values must be .*got {VALUES}"),
        ({"values": torch.ones(6)}, "values must have shape [7] as indices, got [6]"),
        ({"values": torch.ones(7, device="meta")}, "must be on one device, got cpu, cpu, meta"),
        ({"num_features": 3}, "indices must be in [0, 3), got 3 at [1]"),
        ({"num_features": -1}, "num_features must .*got -1"),
        ({"num_features": 2**31}, "num_features must .*got 2147483648"),
    ],
)
def test_unsound_arrays_are_refused(changes: dict[str, Any], message: str) -> None:
    sound: dict[str, Any] = {
        "offsets": torch.tensor(OFFSETS),
        "indices": torch.tensor(INDICES, dtype=torch.int32),
        "values": torch.tensor(VALUES),
        "num_features": 4,
    }
    Sparse(**sound)
    Sparse(**{**sound, **changes}, validate=False)
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=pattern):
        Sparse(**{**sound, **changes})


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([3, 1, 0, 0, 1, 2, 3], "indices must ascend within a sample, got [3, 1] at [0]"),
        ([1, 3, 0, 0, 2, 2, 3], "indices must ascend within a sample, got [2, 2] at [4]"),
        ([1, 3, 0, -1, 1, 2, 3], "indices must be in [0, 4), got -1 at [3]"),
        ([1, 4, 0, 0, 1, 2, 3], "indices must be in [0, 4), got 4 at [1]"),
    ],
)
def test_unsound_indices_are_refused(indices: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(indices=indices)


def test_negated_views_are_looked_at_too() -> None:
    offsets, indices = torch.tensor(OFFSETS), torch.tensor(INDICES, dtype=torch.int32)
    views = [torch._neg_view(-array) for array in (offsets, indices)]
    assert torch.equal(Sparse(*views, torch.tensor(VALUES), 4).to_dense(), DENSE)
    with pytest.raises(ValueError, match=r"got 3 at \[1\]$"):
        Sparse(*views, torch.tensor(VALUES), 3)


def test_a_wrong_type_of_size_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^num_features must be an integer, got 4\.0$"):
        make(n=4.0)


def test_conversions_refuse_other_shapes_and_layouts() -> None:
    with pytest.raises(ValueError, match=r"^activations must have shape \[B, N\], got \[3\]$"):
        Sparse.from_dense(torch.ones(3))
    for wrong, shown in (
        (torch.ones(2, 3), "torch.strided [2, 3]"),
        (torch.ones(3).to_sparse(), "torch.sparse_coo [3]"),
    ):
        with pytest.raises(ValueError, match=f"COO tensor of .*got {re.escape(shown)}$"):
            Sparse.from_sparse_coo(wrong)
