"""Scales of the inputs and norms of the decoder, taken into the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trained_saes import CASES, D, M, bits, inputs, trained

from synthkern import sae as saes

#: Of what goes through float32 sums of some ten products of numbers around 1.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize(("name", "fields"), CASES)
@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_a_folded_scale(name: str, fields: dict[str, Any], apply_b_dec_to_input: bool) -> None:
    factor, x = 1.7, inputs()
    fields = {
        **fields,
        "apply_b_dec_to_input": apply_b_dec_to_input,
        "normalize_activations": "expected_average_only_in",
    }
    sae = trained(name, fields)
    latents, output = sae.encode(x * factor), sae(x * factor)
    threshold = getattr(sae, "topk_threshold", None)
    sae.fold_activation_norm_scaling_factor(factor)
    rescaled = name == "matching_pursuit" or fields.get(
        "rescale_acts_by_decoder_norm", "topk" in name
    )
    unit = factor if rescaled else 1.0
    torch.testing.assert_close(sae.encode(x) * unit, latents, **CLOSE)
    torch.testing.assert_close(sae(x) * factor, output, **CLOSE)
    assert sae.cfg.normalize_activations == "none"
    assert sae.W_enc.T.is_contiguous()
    if threshold is not None:
        assert float(sae.topk_threshold) == pytest.approx(0.123456789 / unit, rel=1e-15)
    if name == "matching_pursuit":
        assert sae.cfg.residual_threshold == pytest.approx(0.5 / factor)


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), float("inf"), "2"])
def test_factors_that_are_refused(factor: Any) -> None:
    sae = trained("standard", {"normalize_activations": "expected_average_only_in"})
    before = bits(sae)
    with pytest.raises((ValueError, TypeError), match="factor must be"):
        sae.fold_activation_norm_scaling_factor(factor)
    assert bits(sae) == before
    assert sae.cfg.normalize_activations == "expected_average_only_in"


@pytest.mark.parametrize("name", ["standard", "topk", "batchtopk", "jumprelu", "gated"])
def test_folded_norms(name: str) -> None:
    sae = trained(name, {"k": 4} if "topk" in name else {})
    norms = sae.W_dec.detach().norm(dim=1)
    latents, output = sae.encode(inputs()), sae(inputs())
    sae.fold_W_dec_norm()
    # Rescaled latents are in that unit already.
    expected = latents if "topk" in name else latents * norms
    torch.testing.assert_close(sae.encode(inputs()), expected, **CLOSE)
    torch.testing.assert_close(sae(inputs()), output, **CLOSE)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(M), **CLOSE)
    assert sae.W_enc.T.is_contiguous()


class Cubes(saes.TrainingSAE):
    config_class = saes.StandardTrainingSAEConfig

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pre = self.pre_activations(x)
        return pre.relu() ** 3, pre


def test_what_cannot_be_folded_says_why() -> None:
    for sae, reason in (
        (Cubes(saes.StandardTrainingSAEConfig(D, M)), "not known of Cubes"),
        (trained("topk", {"rescale_acts_by_decoder_norm": False, "k": 3}), "which latents"),
        (trained("matching_pursuit", {}), "decoder is the encoder"),
    ):
        before = bits(sae)
        with pytest.raises(NotImplementedError, match=reason):
            sae.fold_W_dec_norm()
        assert bits(sae) == before
