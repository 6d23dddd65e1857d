"""What the engine's entry points take: checked alike whichever backend does the work.

Authors of SAEs call these with numbers that no config has seen. Shapes, dtypes, devices and counts
are checked always, as that waits for no device. Which entries CSR activations have is checked on
the CPU, by the C++ core itself or for the other backends here; on a GPU that would wait for it at
each step, so that ``SparseActivations(validate=True)`` is the place for it.
"""

from __future__ import annotations

import torch

from synthkern._checks import as_int
from synthkern.sparse import SparseActivations

#: As many as offsets can count without overflow.
MOST = 2**48


def check_dense(name: str, value: torch.Tensor, *sizes: int | None) -> None:
    """Raise unless ``value`` is strided and floating point of these sizes, None for any."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {value!r}")
    if value.layout != torch.strided or not value.is_floating_point():
        raise ValueError(
            f"{name} must be a dense floating-point tensor, got {value.dtype} {value.layout}"
        )
    shape = list(value.shape)
    fits = len(shape) == len(sizes) and all(
        want is None or have == want for have, want in zip(shape, sizes, strict=True)
    )
    if not fits:
        wanted = ", ".join("*" if size is None else str(size) for size in sizes)
        raise ValueError(f"{name} must have shape [{wanted}], got {shape}")


def check_device(name: str, value: torch.Tensor, device: torch.device) -> None:
    """Raise unless ``value`` is on ``device``."""
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}")


def check_dtype(name: str, value: torch.Tensor, dtype: torch.dtype) -> None:
    """Raise unless ``value`` has ``dtype``."""
    if value.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}, got {value.dtype}")


def check_per_latent(name: str, value: torch.Tensor, pre: torch.Tensor) -> None:
    """Raise unless ``value`` has a number for each of the latents of ``pre`` [B, M]."""
    check_dense(name, value, pre.shape[1])
    check_device(name, value, pre.device)


def check_entries(name: str, entries: SparseActivations) -> None:
    """Raise unless the arrays are those of B samples in CSR form; they need not ascend."""
    if not isinstance(entries, SparseActivations):
        raise TypeError(f"{name} must be SparseActivations, got {type(entries).__name__}")
    offsets, indices, values = entries.offsets, entries.indices, entries.values
    for part, dtype in (("offsets", torch.int64), ("indices", torch.int32)):
        array = getattr(entries, part)
        if not isinstance(array, torch.Tensor) or array.dtype != dtype or array.dim() != 1:
            raise ValueError(f"{name}'s {part} must be a tensor of {dtype} with one dimension")
    check_dense(f"{name}'s values", values, indices.numel())
    if not offsets.device == indices.device == values.device:
        raise ValueError(
            f"{name} must be on one device, got {offsets.device}, {indices.device}, {values.device}"
        )
    as_int(f"{name}'s num_features", entries.num_features, low=0, high=2**31 - 1)


def check_indices(name: str, indices: torch.Tensor, size: int) -> None:
    """Raise unless all of ``indices`` are in [0, size)."""
    if not indices.numel():
        return
    low, high = (int(end) for end in torch.aminmax(indices))
    if low < 0 or high >= size:
        raise ValueError(f"{name} must be in [0, {size}), got {low if low < 0 else high}")


def check_places(name: str, entries: SparseActivations) -> None:
    """Raise unless offsets ascend to the number of entries and indices are in [0, N)."""
    offsets, nnz = entries.offsets, entries.nnz
    if not offsets.numel() or int(offsets[0]) != 0 or int(offsets[-1]) != nnz:
        raise ValueError(f"{name}'s offsets must ascend from 0 to {nnz}, the number of entries")
    # Not by differences, which may overflow.
    if bool((offsets[1:] < offsets[:-1]).any()):
        raise ValueError(f"{name}'s offsets must ascend from 0 to {nnz}, the number of entries")
    check_indices(f"{name}'s indices", entries.indices, entries.num_features)
