"""Tensors as the NumPy views that the core reads."""

from __future__ import annotations

from typing import Any

import torch


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
