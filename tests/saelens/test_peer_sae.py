"""Training steps of SAELens on the same weights and the same batch."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from synthkern import sae as saes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainStepInput as PeerStepInput

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

D, M, B = 12, 40, 33

CASES: list[tuple[str, dict[str, Any]]] = [
    ("topk", {"k": 5}),
    ("topk", {"k": 5, "rescale_acts_by_decoder_norm": False, "apply_b_dec_to_input": False}),
    ("abstopk", {"k": 5}),
    ("abstopk", {"k": 5, "rescale_acts_by_decoder_norm": False, "aux_loss_coefficient": 0.5}),
    ("batchtopk", {"k": 4.5}),
    ("batchtopk", {"k": 4.5, "aux_loss_coefficient": 0.25, "decoder_init_norm": None}),
    ("matryoshka_batchtopk", {"k": 4.5, "matryoshka_widths": [5, 16, 40]}),
    (
        "matryoshka_batchtopk",
        {
            "k": 4.5,
            "matryoshka_widths": [5, 16, 40],
            "use_matryoshka_aux_loss": True,
            "rescale_acts_by_decoder_norm": False,
        },
    ),
    ("standard", {}),
    ("standard", {"lp_norm": 2.0, "l1_coefficient": 3.0, "l1_warm_up_steps": 7}),
    ("jumprelu", {"l0_warm_up_steps": 3}),
    ("jumprelu", {"jumprelu_sparsity_loss_mode": "tanh", "pre_act_loss_coefficient": 0.1}),
    (
        "jumprelu",
        {
            "jumprelu_sparsity_loss_mode": "quadratic",
            "target_l0": 4.0,
            "jumprelu_ste_to_input": True,
            "jumprelu_init_threshold": 0.1,
            "jumprelu_bandwidth": 0.2,
        },
    ),
    ("gated", {"l1_coefficient": 0.5}),
    ("matching_pursuit", {"decoder_init_norm": 1.0, "max_iterations": 6}),
    (
        "matching_pursuit",
        {
            "decoder_init_norm": 1.0,
            "residual_threshold": 0.5,
            "stop_on_duplicate_support": False,
            "apply_b_dec_to_input": False,
        },
    ),
]


def pair(name: str, fields: dict[str, Any]) -> tuple[Any, Any]:
    their_class, their_config = get_sae_training_class(name)
    torch.manual_seed(3)
    ours = saes.make_sae(saes.get_architecture(name).config_class(d_in=D, d_sae=M, **fields))
    torch.manual_seed(3)
    theirs = their_class(their_config(d_in=D, d_sae=M, **fields))
    return ours, theirs


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_the_same_weights_at_the_start(name: str, fields: dict[str, Any]) -> None:
    ours, theirs = pair(name, fields)
    mine = dict(ours.named_parameters())
    assert mine.keys() == dict(theirs.named_parameters()).keys()
    for parameter, value in theirs.named_parameters():
        assert torch.equal(mine[parameter], value), parameter


@pytest.mark.parametrize(("name", "fields"), CASES)
@pytest.mark.parametrize("dead_share", [0.0, 0.3])
@pytest.mark.parametrize("sparse", [True, False])
def test_the_same_steps(
    name: str,
    fields: dict[str, Any],
    dead_share: float,
    sparse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three steps of Adam: losses, activations, gradients and weights."""
    monkeypatch.setattr("synthkern.sae.active.SPARSE_BELOW", 2.0 if sparse else 0.0)
    ours, theirs = pair(name, fields)
    optimizers = [torch.optim.Adam(sae.parameters(), lr=1e-3) for sae in (ours, theirs)]
    coefficients = dict.fromkeys(theirs.get_coefficients(), 0.3)
    assert ours.get_coefficients() == theirs.get_coefficients()
    dead = torch.arange(M) < dead_share * M
    for step in range(3):
        x = torch.randn(B, D, generator=torch.Generator().manual_seed(step)) + 0.1
        mine = ours.training_forward_pass(saes.TrainStepInput(x, coefficients, dead, step))
        other = theirs.training_forward_pass(PeerStepInput(x, coefficients, dead, step, False))
        assert mine.losses.keys() == other.losses.keys()
        for key, loss in other.losses.items():
            torch.testing.assert_close(mine.losses[key], loss, rtol=2e-5, atol=1e-6)
        torch.testing.assert_close(mine.loss, other.loss, rtol=2e-5, atol=1e-6)
        torch.testing.assert_close(mine.feature_acts, other.feature_acts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.hidden_pre, other.hidden_pre, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mine.sae_out, other.sae_out, rtol=1e-4, atol=1e-5)
        for optimizer, output in zip(optimizers, (mine, other), strict=True):
            optimizer.zero_grad()
            output.loss.backward()
        gradients = {key: value.grad for key, value in ours.named_parameters()}
        for key, value in theirs.named_parameters():
            # Cancelling terms of the peer's decoder norms leave some rounding.
            if gradients[key] is None:  # a parameter that takes no part, where the peer has zeros
                assert not value.grad.any()
                continue
            torch.testing.assert_close(gradients[key], value.grad, rtol=1e-3, atol=1e-5)
            # Adam's first steps divide by a gradient's size: both start from the same one.
            dict(ours.named_parameters())[key].grad.copy_(value.grad)
        for optimizer in optimizers:
            optimizer.step()
    if hasattr(theirs, "topk_threshold"):
        torch.testing.assert_close(ours.topk_threshold, theirs.topk_threshold, rtol=1e-6, atol=0)
