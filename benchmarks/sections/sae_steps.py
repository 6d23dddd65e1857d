"""Training steps of every architecture: against the bare encoder product and the peer's step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from harness import peer
from harness.report import Section
from harness.timing import Case, Settings, Timing

from synthkern import sae as saes

_BATCH, _D, _M, _K = 1024, 768, 4096, 25
_L0 = 50  # of a trained SAE with penalties
_LR = 1e-9  # so that every step does the same work
_OURS, _PRODUCT, _PEER = "step", "x @ W_enc", "peer's step"


@dataclass(frozen=True)
class _Steps:
    """One architecture in one state.

    Attributes:
        title: of its table.
        name: of the architecture.
        fields: of its config.
        l0: mean number of active latents that thresholds are set for; None leaves them.
        at_least: times the peer's step that is required; None for nothing.
        at_most: times the bare product that is required.
    """

    title: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    l0: int | None = None
    at_least: float | None = None
    at_most: float | None = None


_TANH = {"jumprelu_sparsity_loss_mode": "tanh"}
_PURSUIT = {
    "decoder_init_norm": 1.0,
    "max_iterations": _K,
    "residual_threshold": 1e-6,
    "stop_on_duplicate_support": False,
}
_STATES = (
    _Steps("TopK", "topk", {"k": _K}),
    _Steps("AbsTopK", "abstopk", {"k": _K}),
    _Steps("BatchTopK", "batchtopk", {"k": _K}, at_least=3.5, at_most=1.6),
    _Steps(
        "Matryoshka BatchTopK",
        "matryoshka_batchtopk",
        {"k": _K, "matryoshka_widths": [128, 512, 2048, _M]},
        at_least=3.5,
    ),
    _Steps(f"Standard, L0 {_L0}", "standard", l0=_L0, at_least=2.5),
    _Steps("Standard at the start", "standard", at_least=1.0),
    _Steps(f"JumpReLU, L0 {_L0}", "jumprelu", l0=_L0, at_least=2.5),
    _Steps(f"JumpReLU with tanh, L0 {_L0}", "jumprelu", _TANH, l0=_L0),
    _Steps("JumpReLU at the start", "jumprelu", at_least=1.0),
    _Steps(f"Gated, L0 {_L0}", "gated", l0=_L0),
    _Steps("Gated at the start", "gated"),
    _Steps(f"Matching pursuit, {_K} iterations", "matching_pursuit", _PURSUIT, at_least=5.0),
)


def run(settings: Settings) -> Section:
    """Measure every architecture."""
    section = Section("sae_steps")
    with_peer = peer.is_there(section)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(_BATCH, _D, generator=generator) for _ in range(4)]
    for steps in _STATES:
        cases = _cases(section, steps, batches, with_peer)
        title = f"{steps.title}: forward, backward and Adam, {_BATCH} x {_D}, {_M} latents"
        timings = section.time(title, cases, settings, _OURS, "step", steps.title)
        _require(section, steps, timings)
    return section


def _cases(
    section: Section, steps: _Steps, batches: list[torch.Tensor], with_peer: bool
) -> list[Case]:
    config_class = saes.get_architecture(steps.name).config_class
    torch.manual_seed(0)
    ours: Any = saes.make_sae(config_class(d_in=_D, d_sae=_M, **steps.fields))
    _set_l0(ours, batches[0], steps.l0)
    product = ours.W_enc.detach().contiguous()
    cases = [
        Case(_OURS, _stepping(ours, saes.TrainStepInput, batches)),
        Case(_PRODUCT, lambda: batches[0] @ product),
    ]
    if with_peer:
        theirs, step_input = peer.training_sae(steps.name, d_in=_D, d_sae=_M, **steps.fields)
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                parameter.copy_(dict(ours.named_parameters())[name])
        line = _losses_are_the_same(ours, theirs, step_input, batches[0])
        section.checks.append(f"{steps.title}: {line}")
        cases.append(Case(_PEER, _stepping(theirs, step_input, batches)))
    return cases


@torch.no_grad()
def _set_l0(sae: Any, x: torch.Tensor, l0: int | None) -> None:
    """Move what latents must exceed so that ``l0`` of them do on average."""
    if l0 is None:
        return
    pre = (x @ sae.W_enc).flatten()
    least = pre.kthvalue(pre.numel() - l0 * len(x)).values
    if sae.cfg.architecture() == "jumprelu":
        sae.threshold.fill_(least)
    elif sae.cfg.architecture() == "gated":
        sae.b_gate.fill_(-least)
    else:
        sae.b_enc.fill_(-least)


def _stepping(
    sae: Any, step_input: Callable[..., Any], batches: list[torch.Tensor]
) -> Callable[[], object]:
    """A training step on the next batch."""
    ours = isinstance(sae, saes.TrainingSAE)
    parameters = saes.trainable_parameters(sae) if ours else list(sae.parameters())
    optimizer = torch.optim.Adam(parameters, lr=_LR, fused=True)
    coefficients = dict.fromkeys(sae.get_coefficients(), 1.0)
    number = 0

    def step() -> None:
        nonlocal number
        optimizer.zero_grad()
        x = batches[number % len(batches)]
        sae.training_forward_pass(step_input(x, coefficients, None, number, False)).loss.backward()
        optimizer.step()
        number += 1

    return step


def _losses_are_the_same(
    ours: Any, theirs: Any, step_input: Callable[..., Any], x: torch.Tensor
) -> str:
    coefficients = dict.fromkeys(ours.get_coefficients(), 1.0)
    mine = ours.training_forward_pass(saes.TrainStepInput(x, coefficients))
    other = theirs.training_forward_pass(step_input(x, coefficients, None, 0, False))
    for name, loss in other.losses.items():
        torch.testing.assert_close(mine.losses[name], loss, rtol=1e-4, atol=1e-4)
    return f"the peer's losses, {sorted(mine.losses)}, at L0 {mine.l0:.1f}"


def _require(section: Section, steps: _Steps, timings: dict[str, Timing]) -> None:
    if steps.at_most is not None:
        value = timings[_OURS].times(timings[_PRODUCT]).median
        text = f"{steps.title}, time of a step against the bare encoder product"
        section.require_at_most(text, value, steps.at_most)
    if steps.at_least is not None:
        measured = _PEER in timings
        value = timings[_PEER].times(timings[_OURS]).median if measured else None
        text = f"{steps.title}, a step against the peer's"
        section.require(text, value, steps.at_least)
