"""Activations of which few are not zero, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from synthkern._checks import as_int, check_numpy_has, check_tensor


class SparseArrays(NamedTuple):
    """The arrays of :class:`SparseActivations` in NumPy: ``scipy.sparse.csr_array`` takes them as
    ``(values, indices, offsets)``.
    """

    offsets: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]


class SparseActivations:
    """B samples of N features in CSR form.

    Args:
        offsets: [B + 1] int64, ascending from 0 to nnz: sample b has entries
            ``offsets[b]`` ... ``offsets[b + 1] - 1``.
        indices: [nnz] int32, features, ascending within a sample.
        values: [nnz] floating point (the stream's are float32), the activations.
        num_features: N.
        validate: whether to check all of this, at a cost that grows with nnz.

    Raises:
        ValueError: for a wrong shape, dtype, device or order, or a feature outside [0, N).

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> entries = synthetic.SparseActivations.from_dense(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
        >>> entries
        SparseActivations(shape=(2, 2), nnz=3, dtype=torch.float32, device='cpu')
        >>> entries.offsets, entries.indices, entries.values
        (tensor([0, 1, 3]), tensor([1, 0, 1], dtype=torch.int32), tensor([2., 1., 3.]))
    """

    __slots__ = ("indices", "num_features", "offsets", "values")

    def __init__(
        self,
        offsets: torch.Tensor,
        indices: torch.Tensor,
        values: torch.Tensor,
        num_features: int,
        *,
        validate: bool = True,
    ) -> None:
        self.offsets = offsets
        self.indices = indices
        self.values = values
        self.num_features = num_features
        if validate:
            self._validate()

    @classmethod
    def from_dense(cls, activations: torch.Tensor) -> SparseActivations:
        """The entries of a dense tensor [B, N] that are not zero."""
        check_tensor("activations", activations)
        if activations.dim() != 2:
            raise ValueError(f"activations must have shape [B, N], got {list(activations.shape)}")
        kept = activations != 0
        rows, indices = kept.nonzero(as_tuple=True)
        return cls._of_places(rows, indices, activations[rows, indices], activations.shape)

    @classmethod
    def from_sparse_coo(cls, activations: torch.Tensor) -> SparseActivations:
        """The stored entries of a sparse COO tensor [B, N]."""
        check_tensor("activations", activations)
        is_coo = activations.layout == torch.sparse_coo and activations.dense_dim() == 0
        if not is_coo or activations.dim() != 2:
            raise ValueError(
                "activations must be a sparse COO tensor of shape [B, N], got "
                f"{activations.layout} {list(activations.shape)}"
            )
        entries = activations.coalesce()
        rows, indices = entries.indices()
        return cls._of_places(rows, indices, entries.values(), activations.shape)

    @classmethod
    def _of_places(
        cls, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape: torch.Size
    ) -> SparseActivations:
        """Entries whose samples, ascending, and features are known."""
        counts = torch.bincount(rows, minlength=shape[0])
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return cls(offsets, columns.to(torch.int32), values, shape[1], validate=False)

    @classmethod
    def cat(cls, parts: Sequence[SparseActivations]) -> SparseActivations:
        """The samples of all parts one after the other; there is at least one part."""
        offsets, before = [parts[0].offsets[:1]], 0
        for part in parts:
            offsets.append(part.offsets[1:] + before)
            before += part.nnz
        indices = torch.cat([part.indices for part in parts])
        return parts[0]._with(torch.cat(offsets), indices, torch.cat([p.values for p in parts]))

    def _with(
        self, offsets: torch.Tensor, indices: torch.Tensor, values: torch.Tensor
    ) -> SparseActivations:
        """Other entries of as many features."""
        return SparseActivations(offsets, indices, values, self.num_features, validate=False)

    @property
    def batch_size(self) -> int:
        """Number of samples B."""
        return self.offsets.numel() - 1

    @property
    def shape(self) -> torch.Size:
        """(B, N)."""
        return torch.Size((self.batch_size, self.num_features))

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self.indices.numel()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Device of all three arrays."""
        return self.values.device

    def row_indices(self) -> torch.Tensor:
        """The sample of each entry: [nnz] int64."""
        samples = torch.arange(self.batch_size, device=self.device)
        return samples.repeat_interleave(self.offsets.diff(), output_size=self.nnz)

    def to_dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A dense tensor [B, N], of the values' dtype where none is given."""
        values = self.values if dtype is None else self.values.to(dtype)
        dense = torch.zeros(self.shape, dtype=values.dtype, device=self.device)
        return dense.index_put_((self.row_indices(), self.indices.long()), values)

    def to_sparse_coo(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A coalesced sparse COO tensor [B, N]."""
        return torch.sparse_coo_tensor(
            torch.stack([self.row_indices(), self.indices.long()]),
            self.values if dtype is None else self.values.to(dtype),
            self.shape,
            is_coalesced=True,
            check_invariants=False,
        )

    def to_sparse_csr(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A sparse CSR tensor [B, N]."""
        return torch.sparse_csr_tensor(
            self.offsets,
            self.indices.long(),
            self.values if dtype is None else self.values.to(dtype),
            self.shape,
            check_invariants=False,
        )

    def drop_zeros(self) -> SparseActivations:
        """The same activations without the stored entries that are zero."""
        kept = self.values != 0
        before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
        return self._with(before[self.offsets], self.indices[kept], self.values[kept])

    def with_values(self, values: torch.Tensor) -> SparseActivations:
        """The same places with other values [nnz]."""
        return self._with(self.offsets, self.indices, values)

    def to_dtype(self, dtype: torch.dtype) -> SparseActivations:
        """The same entries with their values in ``dtype``."""
        return self.with_values(self.values.to(dtype))

    def to(self, device: torch.device | str) -> SparseActivations:
        """The same activations on ``device``."""
        return self._with(self.offsets.to(device), self.indices.to(device), self.values.to(device))

    def numpy(self) -> SparseArrays:
        """The three arrays as NumPy arrays that share their memory.

        Raises:
            ValueError: on another device than the CPU, or for bfloat16, which NumPy lacks.
        """
        check_numpy_has("values", self.device, self.dtype)
        return SparseArrays(
            self.offsets.numpy(), self.indices.numpy(), self.values.detach().numpy()
        )

    def __len__(self) -> int:
        return self.batch_size

    def __getitem__(self, samples: slice | int) -> SparseActivations:
        """The given samples, a view of the entries; a slice has step 1, a number is one sample."""
        if isinstance(samples, slice):
            begin, end, step = samples.indices(self.batch_size)
            if step != 1:
                raise ValueError(f"samples must be a slice of step 1, got step {step}")
            end = max(begin, end)
        else:
            size = self.batch_size
            number = as_int("samples", samples)
            if not -size <= number < size:
                raise IndexError(f"samples must be in [{-size}, {size}), got {number}")
            begin = number % size
            end = begin + 1
        first, last = int(self.offsets[begin]), int(self.offsets[end])
        offsets = self.offsets[begin : end + 1] - first
        return self._with(offsets, self.indices[first:last], self.values[first:last])

    def __repr__(self) -> str:
        return (
            f"SparseActivations(shape={tuple(self.shape)}, nnz={self.nnz}, "
            f"dtype={self.dtype}, device='{self.device}')"
        )

    def check_places(self, *, ascending: bool = False) -> None:
        """Raise unless the three arrays have the right shapes and dtypes and, on the CPU, offsets
        ascend and indices are in range: nothing that follows them then leaves its arrays. With
        ``ascending`` indices must ascend within a sample there too.
        """
        self._validate_arrays()
        if self.device.type == "cpu":
            self._validate_places()
            if ascending:
                self._validate_ascent()

    def _validate(self) -> None:
        self._validate_arrays()
        self._validate_places()
        self._validate_ascent()

    def _validate_arrays(self) -> None:
        self.num_features = as_int("num_features", self.num_features, low=0, high=2**31 - 1)
        for name, dtype in (("offsets", torch.int64), ("indices", torch.int32)):
            array = getattr(self, name)
            if not isinstance(array, torch.Tensor) or array.dtype != dtype or array.dim() != 1:
                raise ValueError(
                    f"{name} must be a tensor of {dtype} with one dimension, got {_what(array)}"
                )
        if not isinstance(self.values, torch.Tensor) or not self.values.is_floating_point():
            raise ValueError(f"values must be a floating-point tensor, got {_what(self.values)}")
        if self.values.shape != self.indices.shape:
            raise ValueError(
                f"values must have shape {list(self.indices.shape)} as indices, "
                f"got {list(self.values.shape)}"
            )
        if not self.offsets.device == self.indices.device == self.values.device:
            raise ValueError(
                "offsets, indices and values must be on one device, got "
                f"{self.offsets.device}, {self.indices.device}, {self.values.device}"
            )

    def _validate_places(self) -> None:
        # In NumPy: seven calls of a microsecond, where torch's took 15 of two.
        offsets, indices = self.offsets.numpy(force=True), self.indices.numpy(force=True)
        if not len(offsets):
            raise ValueError("offsets must hold at least the number 0, got none")
        first, last = int(offsets[0]), int(offsets[-1])
        if first != 0 or last != self.nnz or (offsets[1:] < offsets[:-1]).any():
            raise ValueError(
                f"offsets must ascend from 0 to {self.nnz}, the number of entries, "
                f"got {first} ... {last}"
            )
        if self.nnz and (indices.min() < 0 or indices.max() >= self.num_features):
            place = int(((indices < 0) | (indices >= self.num_features)).argmax())
            raise ValueError(
                f"indices must be in [0, {self.num_features}), got {indices[place]} at [{place}]"
            )

    def _validate_ascent(self) -> None:
        rows = self.row_indices()
        descends = (self.indices.diff() <= 0) & (rows.diff() == 0)
        if bool(descends.any()):
            place = int(descends.nonzero()[0])
            raise ValueError(
                "indices must ascend within a sample, got "
                f"{self.indices[place : place + 2].tolist()} at [{place}]"
            )


def _what(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return repr(value)
