"""Configs of SAEs and their registry."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from small_training import ARCHITECTURES

from synthkern import sae as saes


def config(name: str, **fields: Any) -> Any:
    return saes.get_architecture(name).config_class(d_in=6, d_sae=16, **fields)


def small(name: str) -> Any:
    fields: dict[str, Any] = {"k": 3} if "topk" in name else {}
    if "matryoshka" in name:
        fields["matryoshka_widths"] = [4, 16]
    return config(name, **fields)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_round_trip_through_json(name: str) -> None:
    cfg = small(name)
    cfg.metadata["note"] = "x"
    data = json.loads(json.dumps(cfg.to_dict()))
    assert data["architecture"] == name == cfg.architecture()
    again = saes.TrainingSAEConfig.from_dict(data)
    assert again == cfg
    assert type(again) is type(cfg)
    assert type(cfg).from_dict(data) == cfg
    sae = saes.make_sae(again)
    assert type(sae) is saes.get_architecture(name)
    assert sae.W_enc.shape == (6, 16)
    assert sae.W_dec.shape == (16, 6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_start(name: str) -> None:
    sae = saes.make_sae(small(name))
    norm = sae.cfg.decoder_init_norm
    assert norm is not None
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((16,), norm))
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    assert not sae.b_dec.any()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"d_in": 0}, ValueError, "d_in must be an integer >= 1, got 0"),
        ({"d_sae": 2.5}, TypeError, "d_sae must be an integer, got 2.5"),
        ({"dtype": "int8"}, ValueError, "dtype must be one of .*'int8'"),
        ({"normalize_activations": "x"}, ValueError, "normalize_activations .*got 'x'"),
        ({"decoder_init_norm": -1.0}, ValueError, "decoder_init_norm .*-1.0"),
        ({"metadata": 3}, TypeError, "metadata must be a mapping, got 3"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], error: Any, text: str) -> None:
    data = small(name).to_dict() | fields
    with pytest.raises(error, match=text):
        saes.TrainingSAEConfig.from_dict(data)


def test_refusals_of_k() -> None:
    with pytest.raises(ValueError, match="k must be an integer >= 1 and <= 16, got 17"):
        config("topk", k=17)
    with pytest.raises(TypeError, match=r"k must be an integer, got 2\.5"):
        config("topk", k=2.5)
    assert config("batchtopk", k=2.5).k == 2.5
    with pytest.raises(ValueError, match="k must be a finite number > 0"):
        config("batchtopk", k=0)


def test_names_and_keys_are_known() -> None:
    with pytest.raises(ValueError, match=r"got 'nope'; known are .*'topk'"):
        saes.TrainingSAEConfig.from_dict({"architecture": "nope"})
    with pytest.raises(ValueError, match=r"unknown keys \['width'\]"):
        saes.TrainingSAEConfig.from_dict(small("topk").to_dict() | {"width": 3})
    with pytest.raises(ValueError, match="must stand for a BatchTopKTrainingSAEConfig"):
        saes.BatchTopKTrainingSAEConfig.from_dict(small("topk").to_dict())
    with pytest.raises(ValueError, match="not registered yet, got 'topk'"):
        saes.register_architecture("topk", saes.TopKTrainingSAE)


def test_another_architectures_config_is_refused() -> None:
    with pytest.raises(TypeError, match="cfg must be a BatchTopKTrainingSAEConfig"):
        saes.BatchTopKTrainingSAE(small("topk"))


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[..., 6\], got \[2, 5\]"):
        saes.make_sae(small("topk")).training_forward_pass(saes.TrainStepInput(torch.ones(2, 5)))


def test_refusals_of_one_architecture() -> None:
    for fields, text in (
        ({"matryoshka_widths": []}, r"matryoshka_widths must be ascending .* got \[\]"),
        ({"matryoshka_widths": [4, 4, 16]}, "matryoshka_widths must be ascending"),
        ({"matryoshka_widths": [4, 17]}, r"at most d_sae \(16\)"),
        ({"matryoshka_widths": [0, 16]}, "matryoshka_widths must be an integer >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=text):
            config("matryoshka_batchtopk", k=3, **fields)
    with pytest.raises(ValueError, match=r"target_l0 must be a number with .*'quadratic'"):
        config("jumprelu", jumprelu_sparsity_loss_mode="quadratic")
    with pytest.raises(ValueError, match="jumprelu_sparsity_loss_mode must be one of step, tanh"):
        config("jumprelu", jumprelu_sparsity_loss_mode="l1")
    with pytest.raises(ValueError, match="lp_norm must be a finite number > 0"):
        config("standard", lp_norm=0)


def test_the_level_of_all_latents_is_added() -> None:
    with pytest.warns(UserWarning, match="a level of all 16 latents is added"):
        cfg = config("matryoshka_batchtopk", k=3, matryoshka_widths=[4])
    assert cfg.matryoshka_widths == [4, 16]
    with pytest.warns(UserWarning, match="one level"):
        config("matryoshka_batchtopk", k=3, matryoshka_widths=[16])
