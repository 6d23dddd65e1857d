"""Activations as entries, of the SAEs whose latents are active above thresholds."""

from __future__ import annotations

import pytest
import torch
from trained_saes import D, M, inputs, trained

from synthkern.sae import EntriesTrainingSAE, StandardTrainingSAEConfig
from synthkern.sparse import SparseActivations

#: Of what goes through float32 sums of some ten products of numbers around 1.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("name", ["standard", "jumprelu", "gated"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_entries_are_the_dense_activations(name: str, share: float, backend: str) -> None:
    sae = trained(name, {})
    x = inputs()
    with torch.no_grad():
        shared = torch.nn.functional.linear(sae.centred(x), sae.W_enc.T)
        ends = shared.min() - 1, shared.max() + 1
        bound = {0.0: ends[1], 1.0: ends[0]}.get(share, shared.quantile(1 - share))
        if name == "gated":
            sae.b_gate.fill_(-bound)
        else:
            sae.b_enc.fill_(-bound)
        if name == "jumprelu":
            sae.threshold.mul_(0.1)
    dense = sae.encode(x)
    entries = sae.encode_sparse(x)
    found = entries.to_dense()
    assert torch.equal(found != 0, dense != 0)
    assert bool((entries.values != 0).all())
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sae.decode_sparse(entries), sae.decode(dense), **CLOSE)
    gradients = []
    for out in (sae.decode_sparse(entries), sae.decode(dense)):
        out.square().sum().backward()
        gradients.append({k: v.grad for k, v in sae.named_parameters() if k != "threshold"})
        sae.zero_grad()
    for key, gradient in gradients[0].items():
        expected = gradients[1][key]
        if gradient is None or expected is None:
            assert expected is None or not expected.any()
            continue
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * scale + 1e-6)


@pytest.mark.parametrize("name", ["standard", "jumprelu", "gated"])
def test_entries_of_nothing_and_of_a_wrong_width(name: str) -> None:
    sae = trained(name, {})
    entries = sae.encode_sparse(torch.empty(0, D))
    assert tuple(entries.shape) == (0, M)
    assert sae.decode_sparse(entries).shape == (0, D)
    with pytest.raises(ValueError, match=rf"x must have shape \[..., {D}\]"):
        sae.encode_sparse(torch.zeros(3, D + 1))


class OldNames(EntriesTrainingSAE):
    """As SAEs were written before the names changed."""

    config_class = StandardTrainingSAEConfig

    def encode_entries(self, x: torch.Tensor) -> SparseActivations:
        return SparseActivations.from_dense(self.pre_activations(x).relu())

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encode(x), self.pre_activations(x)


def test_old_names_still_do() -> None:
    x = inputs()
    for sae in (trained("topk", {"k": 5}), trained("gated", {})):
        assert torch.equal(sae.encode_entries(x).to_dense(), sae.encode_sparse(x).to_dense())
    old = OldNames(StandardTrainingSAEConfig(D, M, decoder_init_norm=1.0))
    assert torch.equal(old.encode(x), old.pre_activations(x).relu())
    assert torch.equal(old.encode_sparse(x).to_dense(), old.encode(x))
