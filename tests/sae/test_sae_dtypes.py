"""Steps of every architecture in every dtype, with the branches that depend on data forced."""

from __future__ import annotations

import pytest
import torch
from small_training import ARCHITECTURES, BATCH, D, M, small_config

from synthkern.sae import TrainingSAE, active, make_sae
from synthkern.sae.step import TrainStepInput

DTYPES = ("float16", "bfloat16", "float32", "float64")


def step(
    sae: TrainingSAE, *, autocast: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and the gradients of a batch."""
    x = torch.randn(BATCH, D, generator=torch.Generator().manual_seed(1)).to(sae.W_dec.dtype)
    coefficients = dict.fromkeys(sae.get_coefficients(), 0.5)
    dead = torch.arange(M) < 5
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = sae.training_forward_pass(TrainStepInput(x, coefficients, dead, 0, True))
    output.loss.backward()  # type: ignore[no-untyped-call]
    grads = {}
    for name, parameter in sae.named_parameters():
        if parameter.grad is not None:
            grads[name] = parameter.grad
            assert parameter.grad.dtype == parameter.dtype
    return output.loss.detach(), grads


def made(architecture: str, dtype: str) -> TrainingSAE:
    torch.manual_seed(4)
    sae = make_sae(small_config(architecture, dtype="float64"))
    # The same numbers, that every dtype has exactly.
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    return sae.to(getattr(torch, dtype))


@pytest.mark.parametrize("share", [0.0, 1.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_in_each_dtype(
    architecture: str, dtype: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and gradients are float64's within the dtype's rounding."""
    monkeypatch.setattr(active, "SPARSE_BELOW", share)
    loss, grads = step(made(architecture, dtype))
    exact_loss, exact = step(made(architecture, "float64"))
    assert grads.keys() == exact.keys()
    # Sums of a few dozen terms, and latents near a bound that fall on its other side.
    tolerance = 64 * torch.finfo(getattr(torch, dtype)).eps
    assert float(loss) == pytest.approx(float(exact_loss), rel=tolerance)
    for name, grad in grads.items():
        error = torch.linalg.vector_norm(grad.double() - exact[name])
        assert error <= tolerance * torch.linalg.vector_norm(exact[name]) + 1e-12, name


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("share", [0.0, 1.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_plain_optimizer_trains_on(
    architecture: str, dtype: str, share: float, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active, "SPARSE_BELOW", share)
    sae = made(architecture, dtype)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3, eps=1e-4)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    step(sae, autocast=autocast)
    optimizer.step()
    after = sae.state_dict()
    assert not torch.equal(after["W_dec"], before["W_dec"])
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert {k: v.dtype for k, v in after.items()} == {k: v.dtype for k, v in before.items()}


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("move", ["bfloat16", "half", "float"])
def test_the_threshold_keeps_its_digits(architecture: str, move: str) -> None:
    sae = made(architecture, "float32")
    sae.topk_threshold.fill_(1 / 3)
    getattr(sae, move)()
    assert sae.W_dec.dtype == {"half": torch.float16}.get(move, getattr(torch, move))
    assert sae.topk_threshold.dtype == torch.float64
    assert float(sae.topk_threshold) == 1 / 3
    assert dict(sae.named_buffers())["topk_threshold"] is sae.topk_threshold
