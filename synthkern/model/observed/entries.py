"""Given activations, of whatever kind, as one sparse matrix of what is active."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from synthkern.sparse import SparseActivations

#: What scipy's CSR arrays and matrices have, and others' of the same layout.
_CSR = ("indptr", "indices", "data", "shape")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Entries(NamedTuple):
    """Samples [B, N] by their entries above zero, in the order of samples and then of features.

    Attributes:
        offsets: [B + 1], where each sample begins.
        features: [nnz], ascending within a sample.
        values: [nnz].
        num_features: N.
    """

    offsets: Ints
    features: npt.NDArray[np.int32]
    values: Floats
    num_features: int

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self.offsets) - 1

    @property
    def samples(self) -> Ints:
        """The sample of each entry: [nnz]."""
        return np.repeat(np.arange(self.num_samples), np.diff(self.offsets))

    def ones(self) -> Any:
        """Which features are active: scipy's CSR matrix [B, N] of ones, int32."""
        from scipy import sparse

        data = np.ones(len(self.features), np.int32)
        shape = self.num_samples, self.num_features
        return sparse.csr_matrix((data, self.features, self.offsets), shape=shape)


def entries_of(activations: Any) -> Entries:
    """The entries of activations [B, N], or of an iterable of such batches, which is read once.

    Raises:
        TypeError: for anything else.
        ValueError: for another number of dimensions, batches of different widths, no sample or no
            feature, and numbers that are negative or not finite; names the place.
    """
    parts: list[tuple[Ints, npt.NDArray[np.int32], Floats]] = []
    width: int | None = None
    before = 0
    for batch in _batches(activations):
        counts, features, values, size = _read(batch)
        if width is not None and size != width:
            raise ValueError(
                f"activations must be batches of one width, got {size} after {width} features"
            )
        width = size
        _check(counts, features, values, before)
        parts.append(_above_zero(counts, features, values))
        before += len(counts)
    if width is None or before == 0 or width == 0:
        shape = [before, 0 if width is None else width]
        raise ValueError(f"activations must have a sample and a feature, got shape {shape}")
    counts, features, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Entries(np.concatenate(([0], counts.cumsum())), features, values, width)


def _batches(activations: Any) -> Iterator[Any]:
    if _is_batch(activations):
        yield activations
        return
    if not isinstance(activations, Iterable) or isinstance(activations, str | bytes | dict):
        raise TypeError(
            "activations must be SparseActivations, a tensor, an array, a CSR matrix or an "
            f"iterable of these, got {activations!r}"
        )
    for batch in activations:
        if not _is_batch(batch):
            raise TypeError(
                "activations must be batches of SparseActivations, tensors, arrays or CSR "
                f"matrices, got {batch!r}"
            )
        yield batch


def _is_batch(value: Any) -> bool:
    known = isinstance(value, SparseActivations | torch.Tensor | np.ndarray)
    return known or all(hasattr(value, name) for name in _CSR) or hasattr(value, "tocsr")


def _read(batch: Any) -> tuple[Ints, npt.NDArray[np.int32], Floats, int]:
    """Numbers of entries [B], features and values [nnz] of a batch, and N."""
    if isinstance(batch, SparseActivations):
        offsets, features, values = (
            each.detach().cpu() for each in (batch.offsets, batch.indices, batch.values)
        )
        return _of_csr(offsets, features, values, tuple(batch.shape))
    if isinstance(batch, torch.Tensor):
        return _of_tensor(batch.detach().cpu())
    if isinstance(batch, np.ndarray):
        if batch.dtype.kind not in "biuf":
            raise TypeError(f"activations must be real numbers, got {batch.dtype}")
        return _of_dense(batch)
    if not all(hasattr(batch, name) for name in _CSR):
        batch = batch.tocsr()
    if getattr(batch, "format", "csr") != "csr":
        # Of CSC, for one, the arrays have the same names.
        batch = batch.tocsr()
    return _of_csr(batch.indptr, batch.indices, batch.data, tuple(batch.shape))


def _of_tensor(batch: torch.Tensor) -> tuple[Ints, npt.NDArray[np.int32], Floats, int]:
    if batch.is_complex() or batch.is_quantized:
        raise TypeError(f"activations must be real numbers, got {batch.dtype}")
    if batch.layout == torch.sparse_coo and batch.dim() == 2:
        # By way of a CSR tensor PyTorch would warn that it has such.
        wide = torch.sparse_coo_tensor(
            batch._indices(), batch._values().double(), batch.shape, check_invariants=False
        )
        return _read(SparseActivations.from_sparse_coo(wide))
    if batch.layout == torch.sparse_csr:
        parts = batch.crow_indices(), batch.col_indices(), batch.values()
        return _of_csr(*parts, tuple(batch.shape))
    if batch.layout != torch.strided:
        raise TypeError(f"activations must be dense, COO or CSR of two dimensions, got {batch!r}")
    return _of_dense(batch.double().numpy())


def _of_dense(batch: Any) -> tuple[Ints, npt.NDArray[np.int32], Floats, int]:
    if batch.ndim != 2:
        raise ValueError(f"activations must have shape [B, N], got {list(batch.shape)}")
    rows, columns = np.nonzero(batch)
    counts = np.bincount(rows, minlength=len(batch)).astype(np.int64)
    return counts, columns.astype(np.int32), batch[rows, columns].astype(float), batch.shape[1]


def _of_csr(
    offsets: Any, features: Any, values: Any, shape: tuple[int, ...]
) -> tuple[Ints, npt.NDArray[np.int32], Floats, int]:
    if len(shape) != 2:
        raise ValueError(f"activations must have shape [B, N], got {list(shape)}")
    counts, columns, numbers = _canonical(offsets, features, values, shape)
    return counts, columns, numbers, shape[1]


def _canonical(offsets: Any, features: Any, values: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Entries with features ascending within a sample, and none twice."""
    begin = np.asarray(offsets, dtype=np.int64)
    columns = np.asarray(features, dtype=np.int64)
    if isinstance(values, torch.Tensor):
        values = values.double()
    numbers = np.asarray(values, dtype=np.float64)
    counts = np.diff(begin)
    if len(counts) != shape[0] or (counts < 0).any() or begin[-1] != len(columns):
        raise ValueError(
            f"activations must have offsets that ascend to {len(columns)} for {shape[0]} samples, "
            f"got {len(begin)} from {begin[0]} to {begin[-1]}"
        )
    if len(columns) and (columns.min() < 0 or columns.max() >= shape[1]):
        raise ValueError(
            f"activations must have features in [0, {shape[1]}), got "
            f"{columns.min()} to {columns.max()}"
        )
    keys = np.repeat(np.arange(shape[0]), counts) * shape[1] + columns
    if (np.diff(keys) <= 0).any():
        order = np.argsort(keys, kind="stable")
        columns, numbers, keys = columns[order], numbers[order], keys[order]
        if (np.diff(keys) == 0).any():
            place = int(keys[:-1][np.diff(keys) == 0][0])
            raise ValueError(
                "activations must have each feature of a sample once, got feature "
                f"{place % shape[1]} twice in sample {place // shape[1]}"
            )
    return counts, columns.astype(np.int32), numbers


def _check(counts: Ints, features: Any, values: Floats, before: int) -> None:
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        place = int(bad.argmax())
        sample = int(np.searchsorted(counts.cumsum(), place, side="right")) + before
        raise ValueError(
            f"activations must be finite and at least 0, got {float(values[place])!r} of feature "
            f"{features[place]} in sample {sample}"
        )


def _above_zero(
    counts: Ints, features: npt.NDArray[np.int32], values: Floats
) -> tuple[Ints, npt.NDArray[np.int32], Floats]:
    kept = values > 0
    if kept.all():
        return counts, features, values
    before = np.concatenate(([0], kept.cumsum()))
    ends = np.concatenate(([0], counts.cumsum()))
    return np.diff(before[ends]), features[kept], values[kept]
