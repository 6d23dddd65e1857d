"""SAE files that SAELens loads, and its files loaded here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_saes import CASES, D, M, inputs, shake, trained

import synthkern as synthetic
from synthkern import sae as saes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainingSAE as PeerTrainingSAE

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

#: Of float32 sums of some ten products of numbers around 1, in another order.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}

both_ways = pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
every_case = pytest.mark.parametrize(("name", "fields"), CASES)


def theirs(name: str, fields: dict[str, Any]) -> Any:
    if name == "matching_pursuit":
        fields = {**fields, "decoder_init_norm": 1.0}
    sae_class, config_class = get_sae_training_class(name)
    sae = sae_class(config_class(d_in=D, d_sae=M, **fields))
    shake(sae)
    return sae


def inference_latents(sae: Any) -> torch.Tensor:
    """What a trained SAE's latents are at inference, ours or theirs."""
    acts, pre = sae.encode_with_hidden_pre(inputs())
    return pre * (pre > 0.123456789) if hasattr(sae, "topk_threshold") else acts


def same(one: Any, other: Any, latents: torch.Tensor) -> None:
    """Both give these latents, and the same reconstruction of them."""
    assert float(latents.detach().count_nonzero()) > len(inputs())
    torch.testing.assert_close(one.encode(inputs()), latents, **CLOSE)
    torch.testing.assert_close(other.encode(inputs()), latents, **CLOSE)
    torch.testing.assert_close(one(inputs()), other(inputs()), **CLOSE)
    torch.testing.assert_close(other(inputs()), other.decode(latents), **CLOSE)


def keys(path: Path) -> set[str]:
    return set(json.loads((path / saes.SAE_CFG_FILENAME).read_text()))


@every_case
@both_ways
def test_their_inference_sae_of_our_file(
    name: str, fields: dict[str, Any], apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    fields = {**fields, "apply_b_dec_to_input": apply_b_dec_to_input}
    ours = trained(name, fields)
    paths = ours.save_inference_model(tmp_path / "ours")
    loaded = peer.SAE.load_from_disk(tmp_path / "ours")
    own = saes.TrainingSAE.load_from_disk(tmp_path / "ours")
    latents = inference_latents(ours)
    same(own, loaded, latents)
    torch.testing.assert_close(loaded(inputs()), ours.decode(latents), **CLOSE)
    assert loaded.cfg.apply_b_dec_to_input == apply_b_dec_to_input
    # The files are what they would write of such an SAE.
    written = theirs(name, fields).save_inference_model(tmp_path / "theirs")
    assert [path.name for path in written] == [path.name for path in paths]
    assert keys(tmp_path / "ours") == keys(tmp_path / "theirs")
    metadata = loaded.cfg.metadata.to_dict()
    other = peer.SAE.load_from_disk(tmp_path / "theirs").cfg.metadata.to_dict()
    assert metadata == other


@every_case
@both_ways
def test_their_training_sae_of_our_file(
    name: str, fields: dict[str, Any], apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    ours = trained(name, {**fields, "apply_b_dec_to_input": apply_b_dec_to_input})
    ours.save_model(tmp_path)
    loaded = PeerTrainingSAE.load_from_disk(tmp_path)
    assert loaded.cfg.architecture() == name
    for key, value in loaded.state_dict().items():
        # They narrow the threshold, float64 in training, to the config's dtype as they load.
        assert torch.equal(ours.state_dict()[key].to(value.dtype), value), key
    assert loaded.state_dict().keys() == ours.state_dict().keys()
    said = loaded.cfg.to_dict()
    for key, value in ours.cfg.to_dict().items():
        assert key == "metadata" or said[key] == value, key
    torch.testing.assert_close(loaded.encode(inputs()), ours.encode(inputs()), **CLOSE)
    torch.testing.assert_close(loaded(inputs()), ours(inputs()), **CLOSE)


@every_case
@both_ways
def test_our_sae_of_their_training_file(
    name: str, fields: dict[str, Any], apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    written = theirs(name, {**fields, "apply_b_dec_to_input": apply_b_dec_to_input})
    written.save_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert type(loaded) is saes.get_architecture(name)
    for key, value in written.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    said = written.cfg.to_dict()
    for key, value in loaded.cfg.to_dict().items():
        assert key == "metadata" or said[key] == value, key
    assert loaded.W_enc.T.is_contiguous()
    torch.testing.assert_close(loaded.encode(inputs()), written.encode(inputs()), **CLOSE)
    torch.testing.assert_close(loaded(inputs()), written(inputs()), **CLOSE)


@every_case
@both_ways
def test_our_sae_of_their_inference_file(
    name: str, fields: dict[str, Any], apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    written = theirs(name, {**fields, "apply_b_dec_to_input": apply_b_dec_to_input})
    written.save_inference_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    assert (
        loaded.cfg.architecture() == json.loads((tmp_path / "cfg.json").read_text())["architecture"]
    )
    same(loaded, peer.SAE.load_from_disk(tmp_path), inference_latents(written))


@every_case
def test_folding_does_what_theirs_does(name: str, fields: dict[str, Any]) -> None:
    fields = {**fields, "normalize_activations": "expected_average_only_in"}
    for fold in ("fold_activation_norm_scaling_factor", "fold_W_dec_norm"):
        ours, other = trained(name, fields), theirs(name, fields)
        other.load_state_dict(ours.state_dict())
        outcomes = []
        for sae in (ours, other):
            try:
                getattr(sae, fold)(*([1.7] if "scaling" in fold else []))
            except NotImplementedError as error:
                outcomes.append(type(error))
            else:
                outcomes.append(None)
        assert outcomes[0] == outcomes[1]
        for key, value in other.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-6, atol=1e-7)
        said = other.cfg.to_dict()
        for key, value in ours.cfg.to_dict().items():
            assert key == "metadata" or said[key] == value, key


@every_case
@both_ways
@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("inference", [True, False])
def test_files_whose_inputs_are_scaled_one_by_one(
    name: str,
    fields: dict[str, Any],
    apply_b_dec_to_input: bool,
    kind: str,
    inference: bool,
    tmp_path: Path,
) -> None:
    fields = {**fields, "apply_b_dec_to_input": apply_b_dec_to_input}
    written = theirs(name, {**fields, "normalize_activations": kind})
    if inference:
        written.save_inference_model(tmp_path / "theirs")
        written = peer.SAE.load_from_disk(tmp_path / "theirs")
    else:
        written.save_model(tmp_path / "theirs")
    loaded = saes.TrainingSAE.load_from_disk(tmp_path / "theirs")
    assert loaded.cfg.normalize_activations == kind
    x = inputs() * torch.linspace(0.5, 3, len(inputs()))[:, None] + 0.7
    # SAELens' decode forgets how inputs were scaled.
    latents, expected = written.encode(x), written(x)
    torch.testing.assert_close(loaded.encode(x), latents, **CLOSE)
    torch.testing.assert_close(loaded.decode(latents), expected, **CLOSE)
    torch.testing.assert_close(loaded(x), expected, **CLOSE)
    loaded.save_model(tmp_path / "ours")
    again = PeerTrainingSAE.load_from_disk(tmp_path / "ours")
    torch.testing.assert_close(
        again(x), saes.TrainingSAE.load_from_disk(tmp_path / "ours")(x), **CLOSE
    )


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("name", ["standard", "topk", "matching_pursuit"])
def test_their_files_are_evaluated_as_they_are(name: str, kind: str, tmp_path: Path) -> None:
    fields = dict(CASES).get(name, {})
    written = theirs(name, {**fields, "normalize_activations": kind})
    written.save_model(tmp_path)
    loaded = saes.TrainingSAE.load_from_disk(tmp_path)
    generator = synthetic.ActivationGenerator(20, 0.3)
    dictionary = synthetic.FeatureDictionary(20, D, bias=1.5, seed=0)
    one, other = (
        synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 500, seed=3)
        for sae in (loaded, written)
    )
    for figure, value in other.to_log_dict().items():
        assert one.to_log_dict()[figure] == pytest.approx(value, rel=1e-4, abs=1e-5), figure


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thresholds_below_zero_of_an_inference_file(dtype: str, tmp_path: Path) -> None:
    """SAELens' SAE for inference has a ReLU before the threshold, the one in training has not."""
    written = theirs("jumprelu", {"dtype": dtype})
    with torch.no_grad():
        written.threshold.copy_(torch.linspace(-2, 1, M))
    x = inputs().to(written.W_dec.dtype)
    written.save_inference_model(tmp_path / "inference")
    loaded = saes.TrainingSAE.load_from_disk(tmp_path / "inference")
    expected = peer.SAE.load_from_disk(tmp_path / "inference")
    assert not bool((expected.encode(x) < 0).any())
    torch.testing.assert_close(loaded.encode(x), expected.encode(x), **CLOSE)
    torch.testing.assert_close(loaded(x), expected(x), **CLOSE)
    written.save_model(tmp_path / "training")
    loaded = saes.TrainingSAE.load_from_disk(tmp_path / "training")
    assert bool((written.encode(x) < 0).any())
    torch.testing.assert_close(loaded.encode(x), written.encode(x), **CLOSE)
