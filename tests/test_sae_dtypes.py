"""Steps of every architecture in every dtype, dense and sparse, and what conversions keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.sae import active
from synthkern.sae.step import TrainStepInput

B, D, M = 64, 12, 40
SETTINGS: dict[str, dict[str, Any]] = {
    "standard": {},
    "jumprelu": {"pre_act_loss_coefficient": 0.1},
    "gated": {},
    "topk": {"k": 4},
    "batchtopk": {"k": 3.5},
    "matryoshka_batchtopk": {"k": 3.5, "matryoshka_widths": [10, 25, M]},
    "matching_pursuit": {"max_iterations": 4},
}
DTYPES = ["float16", "bfloat16", "float32", "float64"]


def made(architecture: str, dtype: str) -> Any:
    kind = synthetic.get_architecture(architecture)
    torch.manual_seed(7)
    return kind(kind.config_class(d_in=D, d_sae=M, dtype=dtype, **SETTINGS[architecture]))


def step(sae: Any, *, autocast: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    """A step of Adam; gives the loss and the gradients in float64."""
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    x = x.to(sae.W_dec.dtype)
    coefficients = {
        name: float(getattr(given, "value", given))
        for name, given in sae.get_coefficients().items()
    }
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3, eps=1e-4)  # 1e-8 is 0 in float16
    dead = torch.arange(M) % 5 == 0
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = sae.training_forward_pass(TrainStepInput(x, coefficients, dead, 0))
    output.loss.backward()
    found = {n: p.grad.double() for n, p in sae.named_parameters() if p.grad is not None}
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in sae.parameters())
    return float(output.loss.detach()), found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", SETTINGS)
def test_dense_and_sparse_steps_agree_in_every_dtype(
    architecture: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for share in (-1.0, 2.0):  # never sparse, always sparse
        monkeypatch.setattr(active, "SPARSE_BELOW", share)
        found.append(step(made(architecture, dtype)))
    (dense_loss, dense), (sparse_loss, sparse) = found
    eps = torch.finfo(getattr(torch, dtype)).eps
    assert sparse_loss == pytest.approx(dense_loss, rel=16 * eps)
    assert dense.keys() == sparse.keys()
    for name, gradient in dense.items():
        # Sums of B terms, of products that are rounded.
        off = (sparse[name] - gradient).norm() / gradient.norm().clamp(min=1e-30)
        assert float(off) < 16 * eps, name


@pytest.mark.parametrize("share", [-1.0, 2.0])
@pytest.mark.parametrize("architecture", SETTINGS)
def test_steps_under_autocast(
    architecture: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active, "SPARSE_BELOW", share)
    loss, _ = step(made(architecture, "float32"), autocast=True)
    plain, _ = step(made(architecture, "float32"))
    assert loss == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_a_threshold_keeps_its_digits_in_a_conversion(
    architecture: str, dtype: torch.dtype
) -> None:
    sae = made(architecture, "float32")
    sae.topk_threshold.fill_(1 / 3)
    sae.to(dtype)
    assert sae.W_dec.dtype == dtype
    assert sae.topk_threshold.dtype == torch.float64
    assert float(sae.topk_threshold) == 1 / 3
    assert sae.half().topk_threshold.dtype == torch.float64


def test_jumprelu_thresholds_keep_their_digits_in_a_conversion() -> None:
    sae = made("jumprelu", "float32")
    before = sae.threshold.detach().clone()
    assert torch.equal(sae.to(torch.bfloat16).threshold, before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", SETTINGS)
def test_compiled_saes_give_the_same(architecture: str) -> None:
    sae = made(architecture, "float32")
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    compiled = torch.compile(sae, backend="eager")
    assert torch.equal(compiled(x), sae(x))


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_default_dtype_and_device_do_not_reach_into_an_sae(architecture: str) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        found = step(made(architecture, "float32"))[0]
        with torch.device("meta"):
            sae = made(architecture, "float32")
        assert sae.W_dec.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == step(made(architecture, "float32"))[0]
