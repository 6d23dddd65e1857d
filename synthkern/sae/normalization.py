"""Inputs that are each brought to one scale before an SAE, and reconstructions that go back."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

#: Whoever trains scales all inputs alike, or nobody does: an SAE itself does nothing.
OUTSIDE = ("none", "expected_average_only_in")
#: An SAE scales each input for itself; such SAEs are used here, and trained by SAELens.
EACH = ("constant_norm_rescale", "layer_norm")

#: Beside the standard deviation of an input, as in SAELens.
_EPSILON = 1e-5


class Scaling(NamedTuple):
    """How inputs [B, D] were scaled, [B, 1] each: ``(x - shift) * scale``, and back."""

    shift: torch.Tensor
    scale: torch.Tensor
    back: torch.Tensor

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """The scaled inputs."""
        return ((x - self.shift) * self.scale).to(x.dtype)

    def undo(self, output: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of scaled inputs as those of the inputs."""
        shift, back = (each.reshape(*output.shape[:-1], 1) for each in (self.shift, self.back))
        return (output * back + shift).to(output.dtype)


def scaling_of(kind: str, x: torch.Tensor) -> Scaling:
    """How inputs [..., D] are scaled.

    "constant_norm_rescale" gives them norm sqrt(D); one of zeros stays, and its reconstruction is
    zero. "layer_norm" takes off each one's mean and divides by its standard deviation (that of a
    sample of D numbers) plus 1e-5; going back multiplies by the deviation alone.
    """
    # float16 holds neither the norm of a long input nor what a small one is multiplied by.
    x = x.reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
    if kind == "layer_norm":
        shift, deviation = x.mean(dim=1, keepdim=True), x.std(dim=1, keepdim=True)
        return Scaling(shift, 1 / (deviation + _EPSILON), deviation)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    back = norm / x.shape[1] ** 0.5
    return Scaling(torch.zeros_like(norm), torch.where(norm > 0, 1 / back, 0), back)


def check_trained_here(cfg: Any) -> None:
    """Raise where an SAE of ours cannot be trained as its config says."""
    kind = getattr(cfg, "normalize_activations", "none")
    if kind in EACH:
        raise ValueError(
            f"normalize_activations must be one of {', '.join(OUTSIDE)} in training, got {kind!r}: "
            "such an SAE is only read and used here; SAELens' own classes train it"
        )
