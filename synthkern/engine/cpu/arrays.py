"""Tensors as the NumPy views that the core reads."""

from __future__ import annotations

from typing import Any

import torch


def view(tensor: torch.Tensor) -> Any:
    """A C-contiguous NumPy view; a copy only where the tensor is not contiguous."""
    return tensor.detach().contiguous().numpy()
