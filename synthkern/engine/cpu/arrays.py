"""Tensors as the NumPy views that the core reads, and what it gives as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from synthkern.sparse import SparseActivations


def view(tensor: torch.Tensor) -> Any:
    """A C-contiguous NumPy view; a copy only where the tensor is not contiguous or not aligned."""
    tensor = (tensor.detach() if tensor.requires_grad else tensor).contiguous()
    try:
        place = tensor.data_ptr()
    except RuntimeError as error:
        raise TypeError(
            "tensors must have memory that compiled code can read: not within torch.func's "
            "transforms (vmap, grad, jvp); gradients are those of backward() and torch.autograd"
        ) from error
    # As one from torch.frombuffer at an odd offset, which the core refuses.
    return (tensor.clone() if place % tensor.element_size() else tensor).numpy()


def maybe_view(tensor: torch.Tensor | None) -> Any:
    """The same of a tensor that may be left out."""
    return None if tensor is None else view(tensor)


def entries(arrays: Sequence[Any], num_features: int) -> SparseActivations:
    """The core's offsets, indices and values as activations, over the same memory."""
    offsets, indices, values = (torch.from_numpy(array) for array in arrays)
    return SparseActivations(offsets, indices, values, num_features, validate=False)
