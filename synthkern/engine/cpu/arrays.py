"""Tensors as the NumPy views that the core reads."""

from __future__ import annotations

from typing import Any

import torch


def view(tensor: torch.Tensor) -> Any:
    """A C-contiguous NumPy view; a copy only where the tensor is not contiguous or not aligned."""
    tensor = tensor.detach().contiguous()
    # As one from torch.frombuffer at an odd offset, which the core refuses.
    return (tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor).numpy()
