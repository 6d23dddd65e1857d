"""What the field's SAEs offer, and checks that one does."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from synthkern._checks import check_finite
from synthkern.sparse import SparseActivations


class InferenceSAE(Protocol):
    """An SAE of M latents on D hidden units, as far as inference goes."""

    W_dec: torch.Tensor
    """[M, D]"""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [B, M] of hidden activations [B, D]."""

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [B, D] of latents [B, M]."""


class ActivationScaler(Protocol):
    """A map of hidden activations before the SAE, and its inverse after."""

    def scale(self, acts: torch.Tensor) -> torch.Tensor:
        """Hidden activations [B, D] as the SAE takes them."""

    def unscale(self, acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [B, D] of what :meth:`scale` gave, scaled back."""


def weight(sae: Any, name: str, hidden_dim: int, *, columns: bool = False) -> torch.Tensor:
    """A weight matrix, ``W_dec`` [M, hidden_dim] or with ``columns`` ``W_enc`` [hidden_dim, M].

    Raises:
        TypeError: where the SAE has no such tensor.
        ValueError: for another shape, dtype, or numbers that are not finite.
    """
    value = getattr(sae, name, None)
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"sae must have a tensor {name}, got {value!r} of {type(sae).__name__}")
    expected = f"[{hidden_dim}, M]" if columns else f"[M, {hidden_dim}]"
    if value.dim() != 2 or value.shape[0 if columns else 1] != hidden_dim:
        raise ValueError(f"sae.{name} must have shape {expected}, got {list(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"sae.{name} must be floating point, got {value.dtype}")
    check_finite(f"sae.{name}", value)
    return value


def rescales_latents(sae: Any) -> bool:
    """Whether latents are given times the norms of their decoder rows, and decoding divides."""
    return bool(getattr(getattr(sae, "cfg", None), "rescale_acts_by_decoder_norm", False))


def check_methods(owner_name: str, owner: Any, *names: str) -> None:
    """Raise unless the object has these methods."""
    for name in names:
        if not callable(getattr(owner, name, None)):
            raise TypeError(f"{owner_name} must have a method {name}, got {owner!r}")


def check_returned(name: str, value: Any, shape: tuple[int, int]) -> None:
    """Raise unless a method of an SAE gave a tensor of that shape."""
    if not isinstance(value, torch.Tensor | SparseActivations) or tuple(value.shape) != shape:
        got = getattr(value, "shape", value)
        raise ValueError(f"{name} must return a tensor of shape {list(shape)}, got {got!r}")
