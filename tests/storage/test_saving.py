"""Saving a model and loading it: the same bits, in the field's format, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import synthkern as synthetic

N, D = 30, 5

CONFIG = synthetic.SYNTHETIC_MODEL_CONFIG_FILENAME
WEIGHTS = synthetic.SYNTHETIC_MODEL_WEIGHTS_FILENAME
TREES = synthetic.SYNTHETIC_MODEL_HIERARCHY_FILENAME


def recipe(**changes: Any) -> synthetic.SyntheticModelConfig:
    """A small world with everything in it; without a seed, so that nothing can be built again."""
    fields: dict[str, Any] = {
        "num_features": N,
        "hidden_dim": D,
        "firing_probability": synthetic.RandomFiringProbabilityConfig(0.4, 0.2),
        "hierarchy": synthetic.HierarchyConfig(
            4, 2, 2, mutually_exclusive_portion=0.5, scale_children_by_parent=True
        ),
        "correlation": synthetic.LowRankCorrelationConfig(3, 0.2),
        "std_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(0.2, 0.1),
        "mean_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(2.0, 0.1),
    }
    return synthetic.SyntheticModelConfig(**{**fields, **changes})


def saved(model: synthetic.SyntheticModel, directory: Path) -> synthetic.SyntheticModel:
    model.save(directory)
    return synthetic.SyntheticModel.load_from_disk(directory)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_files_have_the_fields_names() -> None:
    assert CONFIG == "synthetic_model_config.json"
    assert WEIGHTS == "synthetic_model.safetensors"
    assert TREES == "hierarchy.json"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hierarchy": None},
        {"correlation": None},
        {"hierarchy": None, "correlation": None},
        {"dtype": "float16"},
        {"dtype": "float64"},
        {"seed": 2**64 - 1, "bias": False},
    ],
    ids=str,
)
def test_a_loaded_model_samples_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = synthetic.SyntheticModel(recipe(**changes))
    loaded = saved(model, tmp_path / "model")
    assert loaded.cfg == model.cfg
    assert loaded.hierarchy == model.hierarchy
    hidden, features = model.sample_with_features(64, seed=5)
    again, same = loaded.sample_with_features(64, seed=5)
    assert hidden.dtype == again.dtype
    assert torch.equal(hidden, again)
    assert features.dtype == same.dtype
    assert torch.equal(features, same)
    second = saved(loaded, tmp_path / "second")
    assert torch.equal(second.sample(64, seed=5), hidden)
    assert contents(tmp_path / "model") == contents(tmp_path / "second")


def test_a_model_of_given_parts_and_another_dtype(tmp_path: Path) -> None:
    trees = synthetic.Hierarchy([synthetic.HierarchyNode(3, [synthetic.HierarchyNode(1)])])
    drawn = synthetic.ActivationGenerator(
        N, torch.linspace(0, 1, N), 0.5, 2.0, modify_activations=trees.modifier
    )
    vectors = synthetic.FeatureDictionary(N, D, initializer=None, seed=8)
    cfg = recipe(hierarchy=None, correlation=None)
    model = synthetic.SyntheticModel(cfg, vectors, drawn, trees).half()
    loaded = saved(model, tmp_path / "model")
    for one, other in zip(
        model.sample_with_features(64, seed=5),
        loaded.sample_with_features(64, seed=5),
        strict=True,
    ):
        assert one.dtype == other.dtype == torch.float16
        assert torch.equal(one, other)
    assert model.cfg == cfg
    assert cfg.dtype == "float32"


def test_the_files_hold_what_the_field_reads(tmp_path: Path) -> None:
    cfg = recipe(seed=3)
    model = synthetic.SyntheticModel(cfg)
    model.save(tmp_path / "a" / "model")
    files = contents(tmp_path / "a" / "model")
    assert files.keys() == {CONFIG, WEIGHTS, TREES}
    assert json.loads(files[CONFIG]) == cfg.to_dict()
    assert model.hierarchy is not None
    roots = json.loads(files[TREES])["roots"]
    assert roots == [root.to_dict() for root in model.hierarchy.roots]
    assert roots[0].keys() == {
        "feature_index",
        "mutually_exclusive_children",
        "scale_children_by_parent",
        "feature_id",
        "children",
    }
    weights = safetensors.torch.load(files[WEIGHTS])
    assert model.correlation_matrix is not None
    expected = {
        "feature_vectors": model.feature_dict.feature_vectors,
        "bias": model.feature_dict.bias,
        "firing_probabilities": model.activation_generator.firing_probabilities,
        "mean_firing_magnitudes": model.activation_generator.mean_firing_magnitudes,
        "std_firing_magnitudes": model.activation_generator.std_firing_magnitudes,
        "correlation_factor": model.correlation_matrix.correlation_factor,
        "correlation_diag": model.correlation_matrix.correlation_diag,
    }
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


def test_files_without_magnitudes_take_them_from_the_seed(tmp_path: Path) -> None:
    model = synthetic.SyntheticModel(recipe(seed=3))
    model.save(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS)
    del weights["mean_firing_magnitudes"], weights["std_firing_magnitudes"]
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS)
    loaded = synthetic.SyntheticModel.load_from_disk(str(tmp_path))
    assert torch.equal(loaded.sample(64, seed=5), model.sample(64, seed=5))


@pytest.mark.parametrize("correlation", [None, synthetic.LowRankCorrelationConfig(3, 0.2)])
def test_saved_probabilities_are_those_that_fire(tmp_path: Path, correlation: Any) -> None:
    model = synthetic.SyntheticModel(recipe(hierarchy=None, correlation=correlation))
    model.save(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS)
    weights["firing_probabilities"] = (torch.arange(N) % 2).float()
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS)
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
    fired = loaded.sample_with_features(50, seed=5)[1] > 0
    assert torch.equal(fired, (torch.arange(N) % 2 == 1).expand(50, N))


def with_callable() -> synthetic.SyntheticModel:
    drawn = synthetic.ActivationGenerator(N, 0.1, modify_activations=torch.abs)
    return synthetic.SyntheticModel(recipe(hierarchy=None), activation_generator=drawn)


def without_its_hierarchy() -> synthetic.SyntheticModel:
    drawn = synthetic.ActivationGenerator(N, 0.1)
    return synthetic.SyntheticModel(recipe(), activation_generator=drawn)


def with_full_correlation() -> synthetic.SyntheticModel:
    drawn = synthetic.ActivationGenerator(N, 0.1, correlation_matrix=torch.eye(N))
    return synthetic.SyntheticModel(recipe(hierarchy=None), activation_generator=drawn)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (with_callable, r"activation_generator must .*modify_activations = \(.*abs.*\)"),
        (without_its_hierarchy, r"activation_generator must .*modify_activations = None"),
        (with_full_correlation, rf"activation_generator must .*shape \[{N}, {N}\]"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_saving_again_replaces_all_files(tmp_path: Path) -> None:
    synthetic.SyntheticModel(recipe()).save(tmp_path / "model")
    other = synthetic.SyntheticModel(recipe(hierarchy=None, seed=4))
    loaded = saved(other, tmp_path / "model")
    assert contents(tmp_path / "model").keys() == {CONFIG, WEIGHTS}
    assert torch.equal(loaded.sample(9, seed=5), other.sample(9, seed=5))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_saved_files_may_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    synthetic.SyntheticModel(recipe()).save(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode
    for path in (tmp_path / "model").iterdir():
        assert path.stat().st_mode == (tmp_path / "plain" / "file").stat().st_mode, path.name
