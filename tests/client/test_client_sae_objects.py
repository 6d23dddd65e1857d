"""What SAELens' users touch on an SAE and its config: ours beside theirs of the same weights."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import ARCHITECTURES, D, M, small_config, small_sae

import synthkern as synthetic
from synthkern.sae import TrainingSAE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_training_class

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

_HOOKS = "TransformerLens' hook points; torch's own forward hooks work on any module"
_HEADS = "reshaping of attention heads, which language models have"
_CATALOGUE = "SAELens' catalogue of SAEs of language models, whose files load_from_disk reads"
_INNER = "a step of SAELens' own training pass"

#: Names that SAELens' classes have and ours lack, and why.
LEFT_OUT = {
    "add_caching_hooks": _HOOKS,
    "add_hook": _HOOKS,
    "add_perma_hook": _HOOKS,
    "cache_all": _HOOKS,
    "cache_some": _HOOKS,
    "check_and_add_hook": _HOOKS,
    "check_hooks_to_add": _HOOKS,
    "clear_contexts": _HOOKS,
    "get_caching_hooks": _HOOKS,
    "hook_points": _HOOKS,
    "hooks": _HOOKS,
    "list_hooks": _HOOKS,
    "remove_all_hook_fns": _HOOKS,
    "reset_hooks": _HOOKS,
    "run_with_cache": _HOOKS,
    "run_with_hooks": _HOOKS,
    "setup": _HOOKS,
    "turn_on_forward_pass_hook_z_reshaping": _HEADS,
    "turn_off_forward_pass_hook_z_reshaping": _HEADS,
    "from_pretrained": _CATALOGUE,
    "from_pretrained_with_cfg_and_sparsity": _CATALOGUE,
    "from_sae_runner_config": "of runs on language models",
    "load_from_pretrained": "deprecated in SAELens: load_from_disk",
    "use_error_term": "deprecated in SAELens, for models that SAEs are spliced into",
    "fold_activation_whitening": "whitening of inputs, which is not trained here",
    "get_activation_fn": "latents are not a function of single pre-activations in all of ours",
    "calculate_abstopk_aux_loss": _INNER,
    "calculate_topk_aux_loss": _INNER,
    "calculate_matryoshka_aux_loss": _INNER,
    "update_topk_threshold": _INNER,
    "add_training_info_to_metadata": "is added when a file is written",
    "get_inference_config_class": "one class is for training and inference here",
}


def theirs_like(sae: TrainingSAE) -> Any:
    """SAELens' SAE of the same config and weights."""
    sae_class, config_class = get_sae_training_class(sae.cfg.architecture())
    other = sae_class(config_class.from_dict(sae.cfg.to_dict()))
    other.load_state_dict(sae.state_dict())
    return other


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_name_is_there_or_left_out_for_a_reason(architecture: str) -> None:
    own = type(small_sae(architecture))
    theirs = get_sae_training_class(architecture)
    for their_class, our_class in zip(theirs, (own, own.config_class), strict=True):
        names = {name for name in dir(their_class) if not name.startswith("_")}
        missing = {name for name in names if not hasattr(our_class, name)}
        assert missing <= LEFT_OUT.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_weights_say_the_same(architecture: str) -> None:
    sae = small_sae(architecture)
    other = theirs_like(sae)
    x = torch.randn(7, D)
    torch.testing.assert_close(sae.process_sae_in(x), other.process_sae_in(x))
    torch.testing.assert_close(sae(x), other(x))
    torch.testing.assert_close(sae.get_W_dec_norm(), other.get_W_dec_norm())
    assert (sae.device, sae.dtype, sae.get_name()) == (other.device, other.dtype, other.get_name())
    shown, expected = sae.log_histograms(), other.log_histograms()
    assert shown.keys() == expected.keys()
    for name in shown:
        np.testing.assert_allclose(shown[name], expected[name], rtol=1e-6)
    assert sae.cfg.get_training_architecture_details() == (
        other.cfg.get_training_architecture_details()
    )
    ours, there = (s.cfg.get_inference_sae_cfg_dict() for s in (sae, other))
    assert {k: v for k, v in ours.items() if k != "metadata"} == {
        k: v for k, v in there.items() if k != "metadata"
    }


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
def test_folding_the_norms_does_the_same(architecture: str) -> None:
    sae = small_sae(architecture)
    other = theirs_like(sae)
    x = torch.randn(50, D)
    before = sae(x)
    norms = sae.fold_and_get_W_dec_norm()
    torch.testing.assert_close(norms, other.fold_and_get_W_dec_norm())
    torch.testing.assert_close(sae.W_dec, other.W_dec)
    torch.testing.assert_close(sae(x), before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_conversions_are_in_the_config(architecture: str) -> None:
    sae = small_sae(architecture)
    other = theirs_like(sae)
    for module in (sae, other):
        module.to(torch.float64)
        assert (module.cfg.dtype, module.dtype) == ("float64", torch.float64)
    assert sae.to("cpu").cfg.device == other.to("cpu").cfg.device == "cpu"
    for again in (copy.deepcopy(sae), pickle.loads(pickle.dumps(sae))):
        assert again.cfg == sae.cfg


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_their_dictionary_makes_ours(architecture: str, tmp_path: Path) -> None:
    sae = small_sae(architecture)
    other = theirs_like(sae)
    made = TrainingSAE.from_dict(other.cfg.to_dict())
    assert type(made) is type(sae)
    other.save_model(tmp_path)
    made.load_weights_from_checkpoint(tmp_path)
    for name, value in sae.state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], value)


def test_what_a_subclass_does_to_its_files_is_done(tmp_path: Path) -> None:
    """SAELens' hooks of saving and loading."""

    class Doubled(synthetic.StandardTrainingSAE):
        def process_state_dict_for_saving(self, state_dict: dict[str, Any]) -> None:
            state_dict["b_enc_doubled"] = 2 * state_dict.pop("b_enc")

        def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
            state_dict["b_enc"] = state_dict.pop("b_enc_doubled") / 2

    class DoubledConfig(synthetic.StandardTrainingSAEConfig):
        @classmethod
        def architecture(cls) -> str:
            return "doubled"

    Doubled.config_class = DoubledConfig
    with pytest.MonkeyPatch.context() as patch:
        from synthkern.sae import registry

        patch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
        synthetic.register_architecture("doubled", Doubled)
        sae = Doubled(DoubledConfig(D, M))
        with torch.no_grad():
            sae.b_enc.fill_(3.0)
        for save in (sae.save_model, sae.save_inference_model):
            save(tmp_path)
            assert torch.equal(TrainingSAE.load_from_disk(tmp_path).b_enc, sae.b_enc)


def test_another_size_is_refused(tmp_path: Path) -> None:
    small_sae("standard").save_model(tmp_path)
    other = synthetic.StandardTrainingSAE(synthetic.StandardTrainingSAEConfig(D, M + 1))
    with pytest.raises(ValueError, match=f"must hold an SAE of d_sae {M + 1}, got {M}"):
        other.load_weights_from_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="architecture must stand for a GatedTrainingSAE"):
        synthetic.GatedTrainingSAE.from_dict(small_config("topk").to_dict())


def test_numbers_of_numpy_are_numbers() -> None:
    cfg = synthetic.MatryoshkaBatchTopKTrainingSAEConfig(
        np.int64(D), np.int32(M), k=np.float32(2.5), matryoshka_widths=[np.int64(4), M]
    )  # type: ignore[call-arg]
    assert [type(value) for value in (cfg.d_in, cfg.d_sae, cfg.k)] == [int, int, float]
    assert cfg.matryoshka_widths == [4, M]
    assert type(cfg.matryoshka_widths[0]) is int
    assert synthetic.StandardTrainingSAEConfig(D, M, torch.float64).dtype == "float64"  # type: ignore[arg-type]


def test_metadata_are_read_as_attributes_and_keys() -> None:
    cfg = small_config("standard", metadata={"model_name": "toy"})
    assert cfg.metadata.model_name == cfg.metadata["model_name"] == "toy"
    assert cfg.metadata.hook_name is None
