"""Small SAEs of every architecture whose numbers look trained, not drawn."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import sae as saes

D, M = 12, 40

CASES: list[tuple[str, dict[str, Any]]] = [
    ("standard", {"lp_norm": 1.5}),
    ("topk", {"k": 5}),
    ("topk", {"k": 5, "rescale_acts_by_decoder_norm": False}),
    ("abstopk", {"k": 5}),
    ("batchtopk", {"k": 4.5}),
    ("batchtopk", {"k": 4.5, "rescale_acts_by_decoder_norm": False}),
    ("matryoshka_batchtopk", {"k": 4.5, "matryoshka_widths": [5, 16, 40]}),
    ("jumprelu", {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 4.0}),
    ("gated", {"l1_coefficient": 0.5}),
    ("matching_pursuit", {"max_iterations": 6, "residual_threshold": 0.5}),
]


def inputs(count: int = 33) -> torch.Tensor:
    """Samples [count, D]."""
    return torch.randn(count, D, generator=torch.Generator().manual_seed(1)) + 0.1


@torch.no_grad()
def shake(sae: Any) -> None:
    """Give every parameter a number of its own, thresholds ones that matter."""
    generator = torch.Generator().manual_seed(2)
    for parameter in sae.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.add_((0.3 * noise).to(parameter.dtype))
    if "threshold" in dict(sae.named_parameters()):
        sae.threshold.abs_()
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(0.123456789)


def trained(name: str, fields: dict[str, Any]) -> Any:
    """An SAE of ours."""
    sae = saes.make_sae(saes.get_architecture(name).config_class(d_in=D, d_sae=M, **fields))
    shake(sae)
    return sae


def bits(sae: torch.nn.Module) -> dict[str, list[int]]:
    """Every tensor's bytes, by name."""
    return {
        name: value.cpu().contiguous().view(-1).view(torch.uint8).tolist()
        for name, value in sae.state_dict().items()
    }
