"""Saving and loading SAEs, folding what goes around them, and activations as entries."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_saes import CASES, D, M, bits, inputs, trained

from synthkern import sae as saes
from synthkern.sae import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, registry

#: Of what goes through float32 sums of some ten products of numbers around 1.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


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


def test_another_device(tmp_path: Path) -> None:
    sae = trained("jumprelu", {})
    sae.save_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path, device="meta")
    assert loaded.cfg.device == "meta"
    assert {p.device.type for p in loaded.parameters()} == {"meta"}
    assert loaded.W_enc.T.is_contiguous()


def test_the_config_says_the_dtype_that_the_parameters_have(tmp_path: Path) -> None:
    sae = trained("standard", {}).to(torch.bfloat16)
    sae.save_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert bits(loaded) == bits(sae)
    assert (loaded.cfg.dtype, sae.cfg.dtype) == ("bfloat16", "bfloat16")


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

    def calculate_aux_loss(self, step_input: Any, feature_acts: Any, *_: Any) -> dict[str, Any]:
        return {"penalty": feature_acts.sum(dim=-1).mean()}


@pytest.fixture
def _twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
    saes.register_architecture("twice", TwiceSAE)


@pytest.mark.usefixtures("_twice")
def test_an_architecture_of_ones_own_trains() -> None:
    sae = trained("twice", {})
    optimizer = torch.optim.Adam(saes.trainable_parameters(sae), lr=0.01, fused=True)
    seen = []
    for _ in range(50):
        optimizer.zero_grad()
        output = sae.training_forward_pass(saes.TrainStepInput(inputs()))
        assert output.losses.keys() == {"mse_loss", "penalty"}
        output.loss.backward()
        optimizer.step()
        seen.append(float(output.loss.detach()))
    assert seen[-1] < 0.7 * seen[0]


class PlainSAE(saes.TrainingSAE):
    config_class = saes.StandardTrainingSAEConfig
    penalty: Any = None

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pre = self.pre_activations(x)
        return pre.relu(), pre

    def calculate_aux_loss(self, *_: Any) -> dict[str, Any]:
        return {} if self.penalty is None else {"penalty": self.penalty}


def test_a_step_of_several_batches_adds_up_their_losses() -> None:
    sae = PlainSAE(saes.StandardTrainingSAEConfig(d_in=4, d_sae=8))
    batches = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(1))
    output = sae.training_forward_pass(saes.TrainStepInput(batches))
    alone = [sae.training_forward_pass(saes.TrainStepInput(batch)).loss for batch in batches]
    assert output.loss.shape == ()
    torch.testing.assert_close(output.loss, sum(alone))


def test_a_loss_of_another_shape_is_refused() -> None:
    sae = PlainSAE(saes.StandardTrainingSAEConfig(d_in=4, d_sae=8))
    sae.penalty = torch.ones(10)
    message = re.escape("losses must have the shape of mse_loss, got {'mse_loss': [], 'penalty': [")
    with pytest.raises(ValueError, match=message):
        sae.training_forward_pass(saes.TrainStepInput(torch.ones(10, 4)))


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
        (
            {"architecture": "skip_transcoder"},
            ["'skip_transcoder'", "batchtopk", "matching_pursuit"],
        ),
        ({"architecture": ["topk"]}, ["['topk']", "known are"]),
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


# ---- forms of SAELens' files that are not what is written here ----------------------------------


def test_thresholds_saved_as_logarithms(tmp_path: Path) -> None:
    sae = saes.JumpReLUTrainingSAE(saes.JumpReLUTrainingSAEConfig(4, 8))
    with torch.no_grad():
        sae.threshold.copy_(torch.linspace(0.01, 0.5, 8))
    weights, _ = sae.save_model(tmp_path / "sae")
    tensors = load_file(weights)
    tensors["log_threshold"] = tensors.pop("threshold").log()
    save_file(tensors, weights)
    read = saes.TrainingSAE.load_from_disk(tmp_path / "sae")
    # A logarithm and back: some units in the last place.
    torch.testing.assert_close(read.threshold, sae.threshold, rtol=1e-6, atol=0)


def test_a_whole_k_saved_as_a_float(tmp_path: Path) -> None:
    sae = saes.TopKTrainingSAE(saes.TopKTrainingSAEConfig(4, 8, k=2))
    _, recipe = sae.save_model(tmp_path / "sae")
    data = json.loads(recipe.read_text())
    recipe.write_text(json.dumps({**data, "k": 2.0}))
    read = saes.TrainingSAE.load_from_disk(tmp_path / "sae")
    assert type(read.cfg.k) is int
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read(x), sae(x))
    with pytest.raises(TypeError, match=r"k must be an integer, got 2\.5"):
        saes.TopKTrainingSAEConfig(4, 8, k=2.5)
