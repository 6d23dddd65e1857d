"""An SAE made of given weights and an activation that is named: for use, not for training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import nn

from synthkern._checks import as_bool, as_float, as_int, check_finite, check_tensor
from synthkern.engine import product

#: What an SAE's activation may be called; see :class:`DenseSAE`.
ACTIVATIONS = ("relu", "topk", "abs_topk", "batchtopk", "jumprelu", "identity")

#: Those that keep k latents of a sample, and those that compare with thresholds.
_BY_K, _BY_THRESHOLD = ("topk", "abs_topk"), ("batchtopk", "jumprelu")

#: Tensors that there must be.
_WEIGHTS = ("W_enc", "W_dec", "b_enc", "b_dec")


class DenseSAE(nn.Module):
    """A dense encoder, an activation and a decoder: pre = (x - b_dec) @ W_enc + b_enc.

    The activation f gives latents z = f(pre), and reconstructions are z @ W_dec + b_dec:

    - "relu": max(pre, 0);
    - "topk": the k largest of a sample, of these what is above 0 (Gao et al. 2024);
    - "abs_topk": the k of a sample that are largest in absolute value, with their signs
      (arXiv 2510.00404);
    - "jumprelu": pre where it is above 0 and the latent's threshold (Rajamanoharan et al. 2024);
    - "batchtopk": the same, with the threshold that its training learnt for use (Bussmann et al.
      2024): what is active then does not depend on a batch;
    - "identity": pre.

    Args:
        weights: tensors by name, all floating point and finite: ``W_enc`` [D, M], ``W_dec``
            [M, D], ``b_enc`` [M], ``b_dec`` [D]. The SAE has the widest of their dtypes.
        activation: its name.
        k: latents that "topk" and "abs_topk" keep, in [1, M]; None for the others.
        threshold: a number at least 0, or a tensor [M] of such, of "jumprelu" and "batchtopk";
            None for the others.
        apply_b_dec_to_input: whether ``b_dec`` is subtracted from the input, as SAELens does by
            default; without, pre = x @ W_enc + b_enc.

    Raises:
        ValueError: naming what is missing, too much, or of a wrong shape.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> weights = {
        ...     "W_enc": torch.eye(3),
        ...     "W_dec": torch.eye(3),
        ...     "b_enc": torch.zeros(3),
        ...     "b_dec": torch.zeros(3),
        ... }
        >>> sae = synthetic.DenseSAE(weights, "topk", k=1)
        >>> sae.encode(torch.tensor([[2.0, 3.0, 1.0]]))
        tensor([[0., 3., 0.]])
    """

    W_enc: torch.Tensor
    W_dec: torch.Tensor
    b_enc: torch.Tensor
    b_dec: torch.Tensor
    threshold: torch.Tensor | None

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        activation: str,
        *,
        k: int | None = None,
        threshold: Any = None,
        apply_b_dec_to_input: bool = True,
    ) -> None:
        super().__init__()
        check_activation(activation, k, threshold is not None)
        missing = [name for name in _WEIGHTS if name not in weights]
        if missing:
            raise ValueError(f"weights must have {', '.join(missing)}, got {sorted(weights)}")
        for name in _WEIGHTS:
            check_tensor(name, weights[name])
        if weights["W_enc"].dim() != 2:
            raise ValueError(f"W_enc must have shape [D, M], got {list(weights['W_enc'].shape)}")
        width, latents = weights["W_enc"].shape
        for name, shape in {
            "W_enc": (width, latents),
            "W_dec": (latents, width),
            "b_enc": (latents,),
            "b_dec": (width,),
        }.items():
            value = weights[name]
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
            if not value.is_floating_point():
                raise ValueError(f"{name} must be floating point, got {value.dtype}")
            check_finite(name, value)
        # The widest, in which none of them loses anything.
        dtype = reduce(torch.promote_types, (weights[name].dtype for name in _WEIGHTS))
        for name in _WEIGHTS:
            self.register_buffer(name, weights[name].detach().to(dtype))
        self.activation = activation
        self.k = None if k is None else as_int("k", k, low=1, high=latents)
        self.apply_b_dec_to_input = as_bool("apply_b_dec_to_input", apply_b_dec_to_input)
        thresholds = None if threshold is None else _thresholds(threshold, latents).to(dtype)
        self.register_buffer("threshold", thresholds)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [..., M] of hidden activations [..., D]."""
        centred = x - self.b_dec if self.apply_b_dec_to_input else x
        pre = product.matmul(centred, self.W_enc) + self.b_enc
        if self.activation == "identity":
            return pre
        if self.activation == "relu":
            return pre.relu()
        if self.threshold is not None:
            return pre.where((pre > self.threshold) & (pre > 0), 0)
        assert self.k is not None
        size = pre.abs() if self.activation == "abs_topk" else pre.relu()
        places = size.topk(self.k, dim=-1).indices
        kept = pre if self.activation == "abs_topk" else size
        return torch.zeros_like(pre).scatter_(-1, places, kept.gather(-1, places))

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of latents [..., M]."""
        return product.matmul(feature_acts, self.W_dec) + self.b_dec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of hidden activations [..., D]."""
        return self.decode(self.encode(x))


def check_activation(activation: Any, k: Any, has_threshold: bool) -> None:
    """Raise unless the name is one of :data:`ACTIVATIONS` and there is what it needs, no more."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if activation in _BY_K and k is None:
        raise ValueError(f"k must be given with the activation {activation!r}, got None")
    if activation in _BY_THRESHOLD and not has_threshold:
        raise ValueError(
            f"threshold must be given with the activation {activation!r}, got None: it is what a "
            "latent must exceed to be active"
        )
    if activation not in _BY_K and k is not None:
        raise ValueError(f"k must be None with the activation {activation!r}, got {k!r}")
    if activation not in _BY_THRESHOLD and has_threshold:
        raise ValueError(f"threshold must be None with the activation {activation!r}")


def _thresholds(value: Any, latents: int) -> torch.Tensor:
    """[] or [M]."""
    if not isinstance(value, torch.Tensor) or value.dim() == 0:
        return torch.tensor(as_float("threshold", value, low=0))
    if value.shape not in ((latents,), (1,)):
        raise ValueError(
            f"threshold must be a number or have shape [{latents}], got {list(value.shape)}"
        )
    if not value.is_floating_point():
        raise ValueError(f"threshold must be floating point, got {value.dtype}")
    check_finite("threshold", value)
    if bool((value < 0).any()):
        raise ValueError(f"threshold must be at least 0, got {float(value.min())}")
    return value.detach()
