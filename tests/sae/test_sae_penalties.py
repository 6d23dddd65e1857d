"""Standard, JumpReLU, gated and Matryoshka SAEs: sparse and dense steps against the formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthkern import sae as saes
from synthkern.sae.straight_through import heaviside, jumprelu
from synthkern.sparse import SparseActivations

# Only the gather would run in Triton's interpreter, which has tests of its own.
pytestmark = pytest.mark.many_samples

COEFFICIENT = 0.3


def standard(sae: Any, x: torch.Tensor, dead: torch.Tensor) -> dict[str, torch.Tensor]:
    acts = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
    weighted = acts * sae.W_dec.norm(dim=1)
    penalty = weighted.norm(p=sae.cfg.lp_norm, dim=1).mean()
    return losses(x, acts @ sae.W_dec + sae.b_dec, l1_loss=COEFFICIENT * penalty)


def jump(sae: Any, x: torch.Tensor, dead: torch.Tensor) -> dict[str, torch.Tensor]:
    cfg = sae.cfg
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    threshold = sae.threshold.double()
    width = cfg.jumprelu_bandwidth
    near = (pre.detach() - threshold.detach()).abs() < width / 2

    def through(value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """Adds a gradient to the threshold, and to the encoder, without changing the value."""
        gap = (pre if cfg.jumprelu_ste_to_input else pre.detach()) - threshold
        estimate = near * slope / width * gap
        return value + estimate - estimate.detach()

    acts = through(pre * (pre > threshold).detach(), threshold.detach())
    norms = sae.W_dec.norm(dim=1)
    if cfg.jumprelu_sparsity_loss_mode == "tanh":
        sparsity = (cfg.jumprelu_tanh_scale * acts * norms).tanh().sum(1)
    else:
        sparsity = through((pre > threshold).double(), torch.ones(())).sum(1)
    if cfg.jumprelu_sparsity_loss_mode == "quadratic":
        sparsity = 2 / cfg.target_l0 * (sparsity - cfg.target_l0) ** 2
    found = losses(x, acts @ sae.W_dec + sae.b_dec, l0_loss=COEFFICIENT * sparsity.mean())
    if cfg.pre_act_loss_coefficient is not None:
        lift = ((threshold - pre).relu() * dead * norms).sum(1).mean()
        found["pre_act_loss"] = cfg.pre_act_loss_coefficient * lift
    return found


def gated(sae: Any, x: torch.Tensor, dead: torch.Tensor) -> dict[str, torch.Tensor]:
    shared = (x - sae.b_dec) @ sae.W_enc
    gates = (shared + sae.b_gate).relu()
    acts = (shared * sae.r_mag.exp() + sae.b_mag).relu() * (gates > 0)
    again = ((gates @ sae.W_dec + sae.b_dec - x) ** 2).sum(1).mean()
    return losses(
        x,
        acts @ sae.W_dec + sae.b_dec,
        l1_loss=COEFFICIENT * (gates * sae.W_dec.norm(dim=1)).sum(1).mean(),
        auxiliary_reconstruction_loss=again,
    )


def matryoshka(sae: Any, x: torch.Tensor, dead: torch.Tensor) -> dict[str, torch.Tensor]:
    norms = sae.W_dec.norm(dim=1)
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    keys = (pre * norms).flatten()
    kept = torch.zeros_like(keys)
    kept[keys.argsort(descending=True)[: int(sae.cfg.k * len(x))]] = 1
    acts = (pre * kept.view_as(pre)).relu()
    found, begin, recovery = {}, 0, torch.zeros((), dtype=x.dtype)
    for width in sae.cfg.matryoshka_widths:
        out = acts[:, :width] @ sae.W_dec[:width] + sae.b_dec
        found[width] = ((out - x) ** 2).sum(1).mean()
        own = dead.clone()
        own[:begin], own[width:] = False, False
        if sae.cfg.use_matryoshka_aux_loss and bool(own.any()):
            recovery = recovery + recovered(sae, pre, norms, own, (x - out).detach())
        begin = width
    if not sae.cfg.use_matryoshka_aux_loss and bool(dead.any()):
        recovery = recovered(sae, pre, norms, dead, (x - out).detach())
    last = found.pop(width)
    inner = {f"inner_mse_loss_{width}": loss for width, loss in found.items()}
    return {"mse_loss": last, "auxiliary_reconstruction_loss": recovery, **inner}


def recovered(
    sae: Any, pre: torch.Tensor, norms: torch.Tensor, dead: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    most, size = sae.cfg.d_in // 2, int(dead.sum())
    top = (pre * norms).masked_fill(~dead, -torch.inf).topk(min(most, size), dim=1).indices
    acts = pre * torch.zeros_like(pre).scatter(1, top, 1.0)
    return min(size / most, 1.0) * ((acts @ sae.W_dec - residual) ** 2).sum(1).mean()


def losses(x: torch.Tensor, out: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"mse_loss": ((out - x) ** 2).sum(1).mean(), **others}


CASES: list[tuple[str, Any, dict[str, Any]]] = [
    ("standard", standard, {}),
    ("standard", standard, {"lp_norm": 2.0}),
    ("jumprelu", jump, {}),
    ("jumprelu", jump, {"jumprelu_sparsity_loss_mode": "tanh", "pre_act_loss_coefficient": 0.2}),
    ("jumprelu", jump, {"jumprelu_ste_to_input": True, "jumprelu_bandwidth": 2.0}),
    ("jumprelu", jump, {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 3.0}),
    ("gated", gated, {}),
    ("matryoshka_batchtopk", matryoshka, {"k": 2.5, "widths": 3}),
    ("matryoshka_batchtopk", matryoshka, {"k": 2.5, "widths": 3, "use_matryoshka_aux_loss": True}),
]


def build(name: str, fields: dict[str, Any], d: int, m: int) -> Any:
    fields = dict(fields)
    if "widths" in fields:
        parts = fields.pop("widths")
        fields["matryoshka_widths"] = [-(-m * part // parts) for part in range(1, parts + 1)]
    cfg = saes.get_architecture(name).config_class(d_in=d, d_sae=m, dtype="float64", **fields)
    sae = saes.make_sae(cfg)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in sae.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * (noise.abs() if key == "threshold" else noise)
    return sae


def biases(sae: Any) -> list[torch.nn.Parameter]:
    return [p for key, p in sae.named_parameters() if key in ("b_enc", "b_gate")]


@pytest.mark.parametrize(("name", "oracle", "fields"), CASES)
@pytest.mark.parametrize(("b", "d", "m"), [(1, 2, 3), (9, 5, 33), (17, 12, 40)])
@pytest.mark.parametrize("active", ["some", "none", "all"])
@pytest.mark.parametrize("sparse", [True, False])
def test_losses_and_gradients_are_those_of_the_formulas(
    backend: str,
    name: str,
    oracle: Any,
    fields: dict[str, Any],
    b: int,
    d: int,
    m: int,
    active: str,
    sparse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("synthkern.sae.active.SPARSE_BELOW", 2.0 if sparse else 0.0)
    sae = build(name, fields, d, m)
    with torch.no_grad():
        for bias in biases(sae):
            bias += {"some": 0.0, "none": -100.0, "all": 100.0}[active]
    x = torch.randn(b, d, dtype=torch.float64)
    dead = torch.arange(m) % 3 == 0
    coefficients = dict.fromkeys(sae.get_coefficients(), COEFFICIENT)
    output = sae.training_forward_pass(saes.TrainStepInput(x, coefficients, dead))
    wanted = oracle(sae, x, dead)
    assert output.losses.keys() == wanted.keys()
    for key, loss in wanted.items():
        torch.testing.assert_close(output.losses[key], loss, msg=key)
    parameters = dict(sae.named_parameters())
    found = torch.autograd.grad(output.loss, list(parameters.values()), allow_unused=True)
    total = sum(wanted.values(), torch.zeros((), dtype=torch.float64))
    others = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for key, one, other in zip(parameters, found, others, strict=True):
        none = torch.zeros_like(parameters[key])
        torch.testing.assert_close(
            none if one is None else one, none if other is None else other, msg=key
        )
    torch.testing.assert_close(output.feature_acts, sae.encode(x))
    torch.testing.assert_close(output.sae_out, sae(x))
    torch.testing.assert_close(output.hidden_pre, sae.encode_with_hidden_pre(x)[1])
    if name in ("standard", "jumprelu", "gated") and fields.get("lp_norm", 1) == 1:
        assert isinstance(output.latents, SparseActivations) == sparse
    assert output.l0 == pytest.approx(float((output.feature_acts != 0).sum(1).double().mean()))


def test_straight_through_gradients_by_hand() -> None:
    x = torch.tensor([0.2, 0.9, 1.1, 3.0], dtype=torch.float64, requires_grad=True)
    threshold = torch.ones(4, dtype=torch.float64, requires_grad=True)
    out = jumprelu(x, threshold, 0.5, False)
    assert out.tolist() == [0.0, 0.0, 1.1, 3.0]
    grads = torch.autograd.grad(out.sum(), (x, threshold))
    assert [grad.tolist() for grad in grads] == [[0, 0, 1, 1], [0, -2, -2, 0]]
    grads = torch.autograd.grad(jumprelu(x, threshold, 0.5, True).sum(), (x, threshold))
    assert [grad.tolist() for grad in grads] == [[0, 2, 3, 1], [0, -2, -2, 0]]
    out = heaviside(x, threshold, 0.5, True)
    assert out.tolist() == [0, 0, 1, 1]
    grads = torch.autograd.grad(out.sum(), (x, threshold))
    assert [grad.tolist() for grad in grads] == [[0, 2, 2, 0], [0, -2, -2, 0]]


def test_thresholds_stay_in_float32_and_above_zero() -> None:
    sae = build("jumprelu", {}, 4, 9).bfloat16()
    assert sae.threshold.dtype == torch.float32
    assert sae.W_dec.dtype == torch.bfloat16
    sae = build("jumprelu", {}, 4, 9)
    with torch.no_grad():
        sae.threshold[3] = -1.0
    sae.training_forward_pass(saes.TrainStepInput(torch.randn(3, 4), {"l0": 1.0}))
    assert float(sae.threshold[3].detach()) == 0.0


def test_few_active_latents_make_a_step_sparse() -> None:
    sae: Any = saes.make_sae(saes.StandardTrainingSAEConfig(d_in=8, d_sae=64))
    x = torch.randn(32, 8)
    given = saes.TrainStepInput(x, {"l1": 1.0})
    assert isinstance(sae.training_forward_pass(given).latents, torch.Tensor)
    with torch.no_grad():
        sae.b_enc.fill_(-0.25)
    assert isinstance(sae.training_forward_pass(given).latents, SparseActivations)
