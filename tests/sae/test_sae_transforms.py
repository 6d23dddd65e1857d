"""SAEs under torch.func's transforms and on the meta device: numbers, or an error that says why."""

from __future__ import annotations

import pytest
import torch
from small_training import D, small_sae
from torch.func import grad, vmap


def test_jumprelu_under_transforms() -> None:
    sae, inputs = small_sae("jumprelu"), torch.randn(5, D)
    assert torch.allclose(vmap(sae)(inputs), sae(inputs))
    own = inputs.clone().requires_grad_()
    sae(own).square().sum().backward()
    assert torch.equal(grad(lambda x: sae(x).square().sum())(inputs), own.grad)


@pytest.mark.parametrize("architecture", ["topk", "matching_pursuit"])
def test_what_chooses_latents_says_what_it_needs(architecture: str) -> None:
    sae, inputs = small_sae(architecture), torch.randn(5, D)
    with pytest.raises(TypeError, match=r"not within torch\.func's transforms"):
        grad(lambda x: sae(x).sum())(inputs)
    with pytest.raises(ValueError, match="must have numbers, got a tensor on the meta device"):
        sae.to("meta")(inputs.to("meta"))
