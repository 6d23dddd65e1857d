"""SAEs of a user's own: an encoder that is not one product, and losses besides the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthkern as synthetic

pytestmark = pytest.mark.many_samples

D, M = 12, 40


def doubled(kind: Any) -> Any:
    class Doubled(kind):  # type: ignore[misc]
        def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().pre_activations(x)

    return Doubled


CASES: list[Any] = [
    (synthetic.TopKTrainingSAE, {"k": 3}),
    (synthetic.BatchTopKTrainingSAE, {"k": 3, "rescale_acts_by_decoder_norm": False}),
    (synthetic.MatryoshkaBatchTopKTrainingSAE, {"k": 3, "matryoshka_widths": [10, M]}),
    (synthetic.StandardTrainingSAE, {}),
    (synthetic.JumpReLUTrainingSAE, {"jumprelu_init_threshold": 0.05}),
    (synthetic.GatedTrainingSAE, {}),
]


@pytest.mark.parametrize(("kind", "fields"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_gradients_are_its_own(kind: Any, fields: Any, dtype: str) -> None:
    cfg = kind.config_class(d_in=D, d_sae=M, dtype=dtype, **fields)
    torch.manual_seed(0)
    own, plain = doubled(kind)(cfg), kind(cfg)
    state = own.state_dict()
    doubles = [name for name in ("W_enc", "b_enc") if name in state]
    plain.load_state_dict({**state, **{name: 2 * state[name] for name in doubles}})
    x, dead = torch.randn(64, D), torch.arange(M) % 3 == 0
    outputs = []
    for sae in (own, plain):
        step = synthetic.TrainStepInput(
            x, dict.fromkeys(sae.get_coefficients(), 0.5), dead_neuron_mask=dead
        )
        outputs.append(sae.training_forward_pass(step))
        outputs[-1].loss.backward()
    assert own.has_own_encoder
    assert not plain.has_own_encoder
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    assert outputs[0].losses.keys() == outputs[1].losses.keys()
    assert all(float(loss.detach()) > 0 for loss in outputs[0].losses.values())
    for name, parameter in own.named_parameters():
        expected = getattr(plain, name).grad * (2 if name in doubles else 1)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5)
    x = x.to(own.dtype)
    torch.testing.assert_close(own.encode(x), plain.encode(x))
    torch.testing.assert_close(own.encode_sparse(x).to_dense(), plain.encode_sparse(x).to_dense())


def test_a_loss_is_added_under_its_name() -> None:
    sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=D, d_sae=M, k=3))
    output = sae.training_forward_pass(synthetic.TrainStepInput(torch.randn(8, D)))
    before = float(output.loss.detach())
    value = sae.b_enc.sum() + 2
    output.add_loss("mine", value.reshape(1))
    assert float(output.loss.detach()) == pytest.approx(before + 2)
    assert output.losses["mine"].shape == ()
    output.loss.backward()
    with pytest.raises(ValueError, match=r"name must be none of \['aux.*, 'mine', 'mse_loss'\]"):
        output.add_loss("mse_loss", value)
    with pytest.raises(ValueError, match=r"value must be one number, got shape \[40\]"):
        output.add_loss("other", sae.b_enc)
