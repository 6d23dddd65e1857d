"""Saving and loading SAEs, folding what goes around them, and activations as entries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_saes import CASES, D, M, inputs, trained

from synthkern import sae as saes
from synthkern.sae import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, registry

#: Of what goes through float32 sums of some ten products of numbers around 1.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


def bits(sae: torch.nn.Module) -> dict[str, list[int]]:
    return {
        name: value.cpu().contiguous().view(-1).view(torch.uint8).tolist()
        for name, value in sae.state_dict().items()
    }


# ---- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "fields"), CASES)
@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_all_bits_return(
    name: str, fields: dict[str, Any], apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    metadata = {"note": "mine", "nested": {"list": [1, 2.5, None]}}
    fields = {**fields, "apply_b_dec_to_input": apply_b_dec_to_input, "metadata": metadata}
    sae = trained(name, fields)
    before = bits(sae)
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "other.txt").write_text("stays")
    paths = sae.save_model(tmp_path / "sae")
    assert paths == (tmp_path / "sae" / SAE_WEIGHTS_FILENAME, tmp_path / "sae" / SAE_CFG_FILENAME)
    assert (tmp_path / "sae" / "other.txt").read_text() == "stays"
    drawn = torch.random.get_rng_state()
    for owner in (saes.TrainingSAE, type(sae)):
        loaded = owner.load_from_disk(tmp_path / "sae")
        assert type(loaded) is type(sae)
        assert loaded.cfg == sae.cfg
        assert bits(loaded) == before == bits(sae)
        assert [p.dtype for p in loaded.parameters()] == [p.dtype for p in sae.parameters()]
        assert all(p.requires_grad and p.is_leaf for p in loaded.parameters())
        assert loaded.W_enc.T.is_contiguous()
        assert torch.equal(loaded.encode(inputs()), sae.encode(inputs()))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    sae.save_model(tmp_path / "again")
    for file in (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "sae" / file).read_bytes()


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_inference_models(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    sae = trained(name, {**fields, "metadata": {"note": "mine"}})
    before = bits(sae)
    sae.save_inference_model(tmp_path)
    assert bits(sae) == before
    said = json.loads((tmp_path / SAE_CFG_FILENAME).read_text())
    loaded: Any = saes.TrainingSAE.load_from_disk(tmp_path)
    if name.endswith("batchtopk"):
        assert type(loaded) is saes.JumpReLUTrainingSAE
        assert torch.equal(loaded.threshold, torch.full((M,), 0.123456789))
        _, pre = sae.encode_with_hidden_pre(inputs())
        expected = pre * (pre > 0.123456789)
        assert said["metadata"]["training_architecture_details"]["k"] == 4.5
        assert loaded.cfg.metadata["training_architecture"] == name
    else:
        assert type(loaded) is type(sae)
        expected = sae.encode(inputs())
    assert not said.keys() & loaded.cfg.training_only
    assert loaded.cfg.metadata["note"] == "mine"
    torch.testing.assert_close(loaded.encode(inputs()), expected, **CLOSE)
    assert float(expected.detach().count_nonzero()) > 33
    torch.testing.assert_close(loaded(inputs()), sae.decode(expected), **CLOSE)
    if fields.get("rescale_acts_by_decoder_norm", "topk" in name):
        torch.testing.assert_close(loaded.W_dec.norm(dim=1), torch.ones(M), **CLOSE)


def test_a_decoder_row_of_zeros_is_a_latent_that_is_never_active(tmp_path: Path) -> None:
    sae = trained("batchtopk", {"k": 4.5})
    with torch.no_grad():
        sae.W_dec[7] = 0
        sae.topk_threshold.zero_()
    sae.save_inference_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert not loaded.encode(inputs())[:, 7].any()
    assert loaded(inputs()).isfinite().all()


@pytest.mark.parametrize("dtype", ["float64", torch.bfloat16])
def test_another_dtype(dtype: Any, tmp_path: Path) -> None:
    sae = trained("jumprelu", {})
    sae.save_model(tmp_path)
    loaded = saes.JumpReLUTrainingSAE.load_from_disk(tmp_path, dtype=dtype)
    wanted = getattr(torch, str(dtype).removeprefix("torch."))
    assert loaded.W_dec.dtype == loaded.W_enc.dtype == loaded.b_enc.dtype == wanted
    assert loaded.threshold.dtype == torch.float32
    assert loaded.cfg.dtype == str(wanted).removeprefix("torch.")
    assert torch.equal(loaded.W_dec, sae.W_dec.to(wanted))


def test_the_config_says_the_dtype_that_the_parameters_have(tmp_path: Path) -> None:
    sae = trained("standard", {}).to(torch.bfloat16)
    sae.save_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert bits(loaded) == bits(sae)
    assert (loaded.cfg.dtype, sae.cfg.dtype) == ("bfloat16", "float32")


@dataclass
class TwiceConfig(saes.TrainingSAEConfig):
    power: int = 2

    @classmethod
    def architecture(cls) -> str:
        return "twice"


class TwiceSAE(saes.TrainingSAE):
    config_class = TwiceConfig
    cfg: TwiceConfig

    def __init__(self, cfg: TwiceConfig) -> None:
        super().__init__(cfg)
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(cfg.d_sae, dtype=torch.bool))
        self.register_buffer("head", self.W_dec.data[:3])

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pre = self.pre_activations(x)
        return self.gain * pre.relu() ** self.cfg.power, pre


@pytest.fixture
def _twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._REGISTRY, "_classes", dict(registry._REGISTRY._classes))
    saes.register_architecture("twice", TwiceSAE)


@pytest.mark.usefixtures("_twice")
@pytest.mark.parametrize("save", ["save_model", "save_inference_model"])
def test_an_architecture_of_ones_own(save: str, tmp_path: Path) -> None:
    sae: Any = trained("twice", {"power": 3})
    sae.steps += torch.tensor([5, 2**40])
    sae.seen[3] = True
    getattr(sae, save)(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert isinstance(loaded, TwiceSAE)
    assert loaded.cfg.power == 3
    assert bits(loaded) == bits(sae)
    assert torch.equal(loaded(inputs()), sae(inputs()))


@pytest.mark.usefixtures("_twice")
def test_what_cannot_be_folded_says_why() -> None:
    for sae, reason in (
        (trained("twice", {}), "not known of TwiceSAE"),
        (trained("topk", {"rescale_acts_by_decoder_norm": False, "k": 3}), "which latents"),
        (trained("matching_pursuit", {}), "decoder is the encoder"),
    ):
        before = bits(sae)
        with pytest.raises(NotImplementedError, match=reason):
            sae.fold_W_dec_norm()
        assert bits(sae) == before


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trained("batchtopk", {"k": 4.5}).save_model(tmp_path)
    return tmp_path


def refused(path: Path, *parts: str, owner: Any = saes.TrainingSAE) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        owner.load_from_disk(path.parent)
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert message.count(str(path)) == 1


def change(path: Path, **values: Any) -> None:
    data = json.loads(path.read_text())
    data.update(values)
    path.write_text(json.dumps({k: v for k, v in data.items() if v != "gone"}))


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"mystery": 1}, ["mystery", "known are", "topk_threshold_lr"]),
        ({"d_in": "gone"}, ["'d_in'"]),
        ({"d_sae": "gone"}, ["'d_sae'"]),
        ({"d_sae": 0}, ["d_sae", ">= 1", "got 0"]),
        ({"d_in": 13}, ["W_dec", "[40, 13]", "[40, 12]"]),
        ({"d_sae": 2**31 - 1}, ["W_dec", "[2147483647, 12]", "[40, 12]"]),
        ({"architecture": "gone"}, ["'architecture'"]),
        ({"architecture": "transcoder"}, ["'transcoder'", "batchtopk", "matching_pursuit"]),
        ({"architecture": ["topk"]}, ["['topk']", "known are"]),
        ({"normalize_activations": "layer_norm"}, ["normalize_activations", "'layer_norm'"]),
        (
            {"normalize_activations": "constant_norm_rescale"},
            ["normalize_activations", "'constant_norm_rescale'"],
        ),
        (
            {"normalize_activations": "covariance_whitening"},
            ["normalize_activations", "'covariance_whitening'"],
        ),
        ({"metadata": [1]}, ["metadata", "[1]"]),
        ({"dtype": "int8"}, ["dtype", "'int8'", "float32"]),
        ({"k": "many"}, ["k must be", "'many'"]),
    ],
)
def test_configs_that_are_refused(values: dict[str, Any], parts: list[str], folder: Path) -> None:
    change(folder / SAE_CFG_FILENAME, **values)
    # A size is first found wrong where it meets a tensor.
    refused(folder / (SAE_WEIGHTS_FILENAME if "W_dec" in parts else SAE_CFG_FILENAME), *parts)


def test_a_config_that_is_something_else(folder: Path) -> None:
    path = folder / SAE_CFG_FILENAME
    for text, part in (("[1, 2]", "mapping"), ("{", "JSON"), ('{"d_in": NaN}', "NaN")):
        path.write_text(text)
        refused(path, part)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=SAE_CFG_FILENAME):
        saes.TrainingSAE.load_from_disk(folder)


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda t: t.pop("topk_threshold"), ["lacks tensors ['topk_threshold']", "expected"]),
        (lambda t: t.update(extra=torch.ones(2)), ["unknown tensors ['extra']", "expected"]),
        (lambda t: t.update(W_dec=torch.ones(D, M)), ["W_dec", "[40, 12]", "[12, 40]"]),
        (lambda t: t.update(W_enc=torch.ones(M, D)), ["W_enc", "[12, 40]", "[40, 12]"]),
        (lambda t: t.update(b_enc=torch.ones(M, 1)), ["b_enc", "[40]", "[40, 1]"]),
        (lambda t: t.update(b_dec=torch.ones(D).long()), ["b_dec", "F32", "I64"]),
        (lambda t: t["W_enc"][3].fill_(float("nan")), ["W_enc", "nan at [3, 0]"]),
        (lambda t: t["topk_threshold"].fill_(float("inf")), ["topk_threshold", "inf"]),
    ],
)
def test_weights_that_are_refused(
    edit: Callable[[dict[str, torch.Tensor]], Any], parts: list[str], folder: Path
) -> None:
    path = folder / SAE_WEIGHTS_FILENAME
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    refused(path, *parts)


def test_weights_that_are_cut_off(folder: Path) -> None:
    path = folder / SAE_WEIGHTS_FILENAME
    whole = path.read_bytes()
    for size in (0, 5, 300, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, "whole safetensors file")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=SAE_WEIGHTS_FILENAME):
        saes.TrainingSAE.load_from_disk(folder)


def test_another_classs_files(folder: Path) -> None:
    refused(
        folder / SAE_CFG_FILENAME,
        "a StandardTrainingSAE",
        "'batchtopk'",
        owner=saes.StandardTrainingSAE,
    )
    assert type(saes.TopKTrainingSAE.load_from_disk(folder)) is saes.BatchTopKTrainingSAE


def test_arguments_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype must be one of .* got 'int8'"):
        saes.TrainingSAE.load_from_disk(tmp_path / "missing", dtype="int8")
    with pytest.raises(ValueError, match=r"device must be a device .* got 'gpu'"):
        saes.TrainingSAE.load_from_disk(tmp_path / "missing", device="gpu")
    with pytest.raises(FileNotFoundError, match="missing"):
        saes.TrainingSAE.load_from_disk(tmp_path / "missing")


def test_what_the_field_says_beside_an_sae_becomes_metadata(folder: Path) -> None:
    path = folder / SAE_CFG_FILENAME
    change(path, model_name="gpt2", hook_layer=3, metadata={"model_name": "known better"})
    loaded = saes.TrainingSAE.load_from_disk(folder)
    assert loaded.cfg.metadata == {"model_name": "known better", "hook_layer": 3}
    loaded.save_model(folder)
    again = saes.TrainingSAE.load_from_disk(folder)
    assert again.cfg == loaded.cfg


def test_a_topk_for_inference_that_says_nothing_of_norms_has_none(tmp_path: Path) -> None:
    sae = trained("topk", {"k": 5, "rescale_acts_by_decoder_norm": False})
    sae.save_inference_model(tmp_path)
    change(tmp_path / SAE_CFG_FILENAME, rescale_acts_by_decoder_norm="gone")
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert torch.equal(loaded.encode(inputs()), sae.encode(inputs()))


# ---- folding -------------------------------------------------------------------------------------


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


# ---- entries -------------------------------------------------------------------------------------


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
    entries = sae.encode_entries(x)
    found = entries.to_dense()
    assert torch.equal(found != 0, dense != 0)
    assert bool((entries.values != 0).all())
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sae.decode_entries(entries), sae.decode(dense), **CLOSE)
    gradients = []
    for out in (sae.decode_entries(entries), sae.decode(dense)):
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
    entries = sae.encode_entries(torch.empty(0, D))
    assert tuple(entries.shape) == (0, M)
    assert sae.decode_entries(entries).shape == (0, D)
    with pytest.raises(ValueError, match=rf"x must have shape \[..., {D}\]"):
        sae.encode_entries(torch.zeros(3, D + 1))
