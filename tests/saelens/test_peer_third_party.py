"""SAEs that SAELens saved, of all its architectures, loaded to be evaluated here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.sae.saelens import SequenceOfOne
from synthkern.training.batch_source import EVALUATION_START

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens")
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

D, M = 16, 32

#: Of float32 sums of some ten products of numbers around 1, in another order.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}

#: Fields without which a config cannot be, by architecture.
FIELDS: dict[str, dict[str, Any]] = {
    "topk": {"k": 5},
    "abstopk": {"k": 5},
    "batchtopk": {"k": 4.5},
    "matryoshka_batchtopk": {"k": 4.5, "matryoshka_widths": [8, M]},
    "temporal": {"n_heads": 2, "bottleneck_factor": 4, "kval_topk": 6, "sae_diff_type": "topk"},
}
OTHERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
SAES = sorted({*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY} - set(OTHERS))


def made(kinds: dict[str, Any], name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    sae_class, config_class = kinds[name]
    given = {"d_in": D, "d_sae": M, **FIELDS.get(name, {}), **more}
    sae = sae_class(config_class(**given))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if hasattr(sae, "threshold"):
            sae.threshold.abs_()
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.25)
    return sae


def inputs() -> torch.Tensor:
    return torch.randn(20, D, generator=torch.Generator().manual_seed(1))


def test_all_architectures_are_known() -> None:
    assert set(SAES) >= {"standard", "topk", "batchtopk", "jumprelu", "gated", "temporal"}
    assert {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY} == {*SAES, *OTHERS}


@pytest.mark.parametrize("name", [name for name in SAES if name in SAE_CLASS_REGISTRY])
def test_an_sae_for_inference(name: str, tmp_path: Path) -> None:
    theirs = made(SAE_CLASS_REGISTRY, name)
    theirs.save_model(tmp_path)
    found = synthetic.load_sae(tmp_path, d_in=D)
    x = inputs()
    if name == "temporal":
        latents, reconstructed = theirs.encode(x[:, None])[:, 0], theirs(x[:, None])[:, 0]
    else:
        latents, reconstructed = theirs.encode(x), theirs(x)
    assert float(latents.detach().count_nonzero()) > len(x)
    torch.testing.assert_close(found.encode(x), latents, **CLOSE)
    torch.testing.assert_close(found.decode(found.encode(x)), reconstructed, **CLOSE)


@pytest.mark.parametrize("name", sorted(SAE_TRAINING_CLASS_REGISTRY))
def test_a_trained_sae(name: str, tmp_path: Path) -> None:
    theirs = made(SAE_TRAINING_CLASS_REGISTRY, name)
    theirs.save_inference_model(tmp_path)
    loaded, found = peer.SAE.load_from_disk(tmp_path), synthetic.load_sae(tmp_path, d_in=D)
    torch.testing.assert_close(found.encode(inputs()), loaded.encode(inputs()), **CLOSE)
    decoded = found.decode(found.encode(inputs()))
    torch.testing.assert_close(decoded, loaded(inputs()), **CLOSE)


@pytest.mark.parametrize("name", OTHERS)
def test_a_transcoder_is_refused(name: str, tmp_path: Path) -> None:
    made(SAE_CLASS_REGISTRY, name, d_out=D, apply_b_dec_to_input=False).save_model(tmp_path)
    with pytest.raises(ValueError, match=rf"must be an SAE's, .* but '{name}' predicts"):
        synthetic.load_sae(tmp_path)


@pytest.mark.parametrize("name", SAES)
def test_an_evaluation(name: str, tmp_path: Path) -> None:
    kinds = SAE_CLASS_REGISTRY if name in SAE_CLASS_REGISTRY else SAE_TRAINING_CLASS_REGISTRY
    theirs = made(kinds, name)
    save = getattr(theirs, "save_inference_model", theirs.save_model)
    save(tmp_path / "theirs")
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(24, D, seed=0))
    result = synthetic.eval_sae_on_synthetic_data(
        synthetic.load_sae(tmp_path / "theirs"),
        model.feature_dict,
        model.activation_generator,
        200,
        seed=0,
    )
    assert result.sae_l0 > 0


def test_a_temporal_sae_decodes_what_it_encoded(tmp_path: Path) -> None:
    made(SAE_CLASS_REGISTRY, "temporal").save_model(tmp_path)
    found = synthetic.load_sae(tmp_path)
    assert isinstance(found, SequenceOfOne)
    assert found.W_dec.shape == (M, D)
    with pytest.raises(ValueError, match=r"must be codes that were encoded last"):
        found.decode(torch.zeros(3, M))


def test_rows_of_a_suite(tmp_path: Path) -> None:
    names = ("standard", "temporal")
    for name in names:
        made(SAE_CLASS_REGISTRY, name).save_model(tmp_path / name)
    data = {
        "name": "theirs",
        "worlds": {"toy": {"num_features": 24, "hidden_dim": D, "seed": 0}},
        "saes": {name: {"source": name} for name in names},
        "seeds": [0],
        "training": {"eval_samples": 200},
    }
    runs = synthetic.run_suite(synthetic.Suite.from_dict(data, tmp_path), tmp_path / "out")
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(24, D, seed=0))
    for run in runs:
        assert (run.state, run.role) == ("done", "given"), run.error
        result = synthetic.eval_sae_on_synthetic_data(
            synthetic.load_sae(tmp_path / run.sae),
            model.feature_dict,
            model.activation_generator,
            200,
            seed=0,
            start=EVALUATION_START,
        )
        assert run.metrics["mcc"] == pytest.approx(result.mcc)
        assert run.metrics["sae_l0"] == pytest.approx(result.sae_l0)
