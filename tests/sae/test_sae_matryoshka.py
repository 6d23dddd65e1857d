"""Matryoshka levels that are detached from each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthkern.sae import (
    BatchTopKTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAEConfig,
    TrainStepInput,
    make_sae,
)

# Only the gather would run in Triton's interpreter, which has tests of its own.
pytestmark = pytest.mark.many_samples

WIDTHS = [4, 10, 24]


def sae_of(**fields: Any) -> Any:
    torch.manual_seed(2)
    sae = make_sae(
        MatryoshkaBatchTopKTrainingSAEConfig(
            6, 24, k=5, matryoshka_widths=WIDTHS, dtype="float64", **fields
        )
    )
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64)
    return sae


def detached_losses(sae: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """A level after the other, each on what those before it have left."""
    norms = sae.W_dec.detach().norm(dim=1)
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    order = (pre * norms).flatten().argsort(descending=True)[: 5 * len(x)]
    kept = torch.zeros(pre.numel(), dtype=torch.float64).scatter(0, order, 1.0).view_as(pre)
    acts = (pre * kept).relu()
    losses, before, begin = [], None, 0
    for end in WIDTHS:
        own = acts[:, begin:end] @ sae.W_dec[begin:end]
        now = own + (sae.b_dec if before is None else before)
        losses.append((now - x).square().sum(dim=1).mean())
        before, begin = now.detach(), end
    return losses


def test_gradients_stop_between_detached_levels(backend: str) -> None:
    sae, x = sae_of(detach_levels=True), torch.randn(12, 6, dtype=torch.float64)
    output = sae.training_forward_pass(TrainStepInput(x))
    wanted = detached_losses(sae, x)
    names = ["inner_mse_loss_4", "inner_mse_loss_10", "mse_loss"]
    for name, loss in zip(names, wanted, strict=True):
        torch.testing.assert_close(output.losses[name], loss)
    found = torch.autograd.grad(output.loss, list(sae.parameters()))
    again = torch.autograd.grad(torch.stack(wanted).sum(), list(sae.parameters()))
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other)


def test_detaching_changes_no_loss_and_the_first_level_learns_alone(backend: str) -> None:
    x = torch.randn(12, 6, dtype=torch.float64)
    outputs = []
    for detach in (False, True):
        sae = sae_of(detach_levels=detach)
        output = sae.training_forward_pass(TrainStepInput(x))
        outputs.append(output)
        # The outer losses by themselves.
        outer = output.losses["mse_loss"] + output.losses["inner_mse_loss_10"]
        (gradient,) = torch.autograd.grad(outer, sae.W_dec)
        assert bool(gradient[:4].any()) is not detach
        assert bool(gradient[10:].any())
    for name, loss in outputs[0].losses.items():
        assert torch.equal(outputs[1].losses[name], loss), name


def test_the_files_of_one_are_a_batchtopks() -> None:
    cfg = sae_of(detach_levels=True).cfg
    assert type(cfg).from_dict(cfg.to_dict()) == cfg
    assert "detach_levels" not in sae_of().cfg.to_dict()
    inference = cfg.get_inference_sae_cfg_dict()
    plain = BatchTopKTrainingSAEConfig(6, 24, k=5, dtype="float64").get_inference_sae_cfg_dict()
    assert inference.keys() == plain.keys()
    with pytest.raises(TypeError, match="detach_levels"):
        sae_of(detach_levels=1)
