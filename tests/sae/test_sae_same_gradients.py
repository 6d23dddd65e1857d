"""The same step gives the same bits again: no sum's order is left to chance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.sae.step import TrainStepInput

B, D, M = 2048, 24, 512

#: Sparse steps of 50,000 entries and more: PyTorch's parallel sums begin at 32,768.
SETTINGS: dict[str, dict[str, Any]] = {
    "standard": {},
    "jumprelu": {},
    "gated": {},
    "topk": {"k": 70},
    "abstopk": {"k": 70},
    "batchtopk": {"k": 70},
    "matryoshka_batchtopk": {"k": 70, "matryoshka_widths": [100, 300, M]},
    "matching_pursuit": {"max_iterations": 70},
}


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_step_repeated_gives_the_same_gradients(architecture: str) -> None:
    kind = synthetic.get_architecture(architecture)
    torch.manual_seed(5)
    sae = kind(kind.config_class(d_in=D, d_sae=M, **SETTINGS[architecture]))
    x = torch.randn(B, D)
    bounded = architecture in ("standard", "jumprelu", "gated")
    if bounded:
        with torch.no_grad():
            bias = sae.b_gate if architecture == "gated" else sae.b_enc
            bias.fill_(-(sae.centred(x) @ sae.W_enc).quantile(0.86))
    found = [_gradients(sae, x) for _ in range(4)]
    assert 40_000 < sae.encode_sparse(x).nnz < 0.18 * B * M
    for again in found[1:]:
        for name, gradient in found[0].items():
            assert torch.equal(gradient, again[name]), name


def _gradients(sae: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    coefficients = {
        name: float(getattr(given, "value", given))
        for name, given in sae.get_coefficients().items()
    }
    dead = torch.arange(M) % 7 == 0
    output = sae.training_forward_pass(TrainStepInput(x, coefficients, dead, 0))
    output.loss.backward()
    grads = {n: p.grad.clone() for n, p in sae.named_parameters() if p.grad is not None}
    sae.zero_grad()
    return grads
