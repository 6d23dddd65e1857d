"""Directories that SAELens saved load here, and ours load there.

``pip install -c constraints.txt '.[test,peer]' && pytest -m peer``
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "num_features": 30,
    "hidden_dim": 5,
    "firing_probability": {"generator_name": "zipfian"},
    "seed": 3,
}
FOREST = {"total_root_nodes": 4, "branching_factor": 2, "mutually_exclusive_portion": 0.5}

#: What differs from SMALL, by name.
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no seed": {"seed": None},
    "greatest seed": {"seed": 2**64 - 1},
    "hierarchy": {"hierarchy": FOREST},
    "compensated": {"hierarchy": {**FOREST, "compensate_probabilities": True}},
    "scaled": {"hierarchy": {**FOREST, "scale_children_by_parent": True}},
    "branching pair": {"hierarchy": {**FOREST, "branching_factor": [2, 3]}},
    "more roots than features": {"hierarchy": {**FOREST, "total_root_nodes": 100}},
    "correlation": {"correlation": {"rank": 3, "correlation_scale": 0.1}},
    "correlation with a seed": {"correlation": {"rank": 3, "seed": 5}},
    "no correlation in it": {"correlation": {"rank": 2, "correlation_scale": 0.0}},
    "float16": {"dtype": "float16", "correlation": {"rank": 3}},
    "bfloat16": {"dtype": "bfloat16", "correlation": {"rank": 3}},
    "float64": {"dtype": "float64", "correlation": {"rank": 3}},
    "no bias": {"bias": False},
    "a bias": {"bias": True},
    "a norm": {"bias": 2},
    "constant": {"firing_probability": {"generator_name": "constant", "probability": 0.2}},
    "never": {"firing_probability": {"generator_name": "constant", "probability": 0.0}},
    "linear": {"firing_probability": {"generator_name": "linear"}},
    "random": {"firing_probability": {"generator_name": "random"}},
    "constant mean": {"mean_firing_magnitudes": {"generator_name": "constant", "value": 2.0}},
    "negative mean": {"mean_firing_magnitudes": -1.0},
    "linear mean": {"mean_firing_magnitudes": {"generator_name": "linear", "start": 1, "end": 2}},
    "exponential mean": {
        "mean_firing_magnitudes": {"generator_name": "exponential", "start": 1, "end": 2}
    },
    "folded normals": {
        "mean_firing_magnitudes": {"generator_name": "folded_normal", "mean": -2.0, "max_value": 3},
        "std_firing_magnitudes": {"generator_name": "folded_normal", "min_value": 0.1},
    },
    "orthogonalized": {"orthogonalization": {"num_steps": 2, "lr": 0.01}},
    "one feature": {"num_features": 1},
}

#: What that package takes, and a config here does not.
LENIENT: dict[str, dict[str, Any]] = {
    "prefixed dtype": {"dtype": "torch.float32"},
    "negative seed": {
        "seed": -1,
        "mean_firing_magnitudes": {"generator_name": "folded_normal", "mean": 2.0},
        "std_firing_magnitudes": {"generator_name": "folded_normal"},
    },
    "negative seed of a correlation": {"correlation": {"rank": 3, "seed": -7}},
    "negative bias": {"bias": -1.0},
    "negative std": {"std_firing_magnitudes": -0.5},
    "negative constant std": {
        "std_firing_magnitudes": {"generator_name": "constant", "value": -0.5}
    },
    "negative steps": {"orthogonalization": {"num_steps": -1, "lr": 0.01}},
    "no rate": {"orthogonalization": {"num_steps": 1, "lr": 0.0}},
}


def theirs_of(changes: dict[str, Any]) -> Any:
    return peer.SyntheticModel(peer.SyntheticModelConfig.from_dict({**SMALL, **changes}))


def ours_of(changes: dict[str, Any]) -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig.from_dict({**SMALL, **changes}))


def assert_same_world(ours: synthetic.SyntheticModel, theirs: Any) -> None:
    for name in ("feature_vectors", "bias"):
        a, b = (getattr(model.feature_dict, name).detach() for model in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=0, atol=0, check_dtype=False, msg=name)
    drawn = [model.activation_generator for model in (ours, theirs)]
    torch.testing.assert_close(
        drawn[0].firing_probabilities, drawn[1].firing_probabilities.float(), rtol=0, atol=0
    )
    assert (ours.hierarchy is None) == (theirs.hierarchy is None)
    if ours.hierarchy is not None:
        assert ours.hierarchy.to_dict() == theirs.hierarchy.to_dict()
    assert (ours.correlation_matrix is None) == (theirs.correlation_matrix is None)
    if ours.correlation_matrix is not None:
        for a, b in zip(ours.correlation_matrix, theirs.correlation_matrix, strict=True):
            torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=0)


@pytest.mark.parametrize("name", [*CONFIGS, *LENIENT])
def test_theirs_load_here(tmp_path: Path, name: str) -> None:
    theirs = theirs_of((CONFIGS | LENIENT)[name])
    theirs.save(tmp_path / "model")
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path / "model")
    assert_same_world(loaded, theirs)
    if loaded.cfg.seed is not None:
        # They do not store these, and round a geometric progression otherwise.
        for what in ("mean_firing_magnitudes", "std_firing_magnitudes"):
            a, b = (getattr(m.activation_generator, what) for m in (loaded, theirs))
            torch.testing.assert_close(a, b.float().abs() if "std" in what else b.float())
    if name in CONFIGS:
        written = json.loads((tmp_path / "model" / "synthetic_model_config.json").read_text())
        assert json.loads(json.dumps(loaded.cfg.to_dict())) == written
    hidden = loaded.sample(9, seed=1)
    loaded.save(tmp_path / "again")
    again = synthetic.SyntheticModel.load_from_disk(tmp_path / "again")
    assert torch.equal(again.sample(9, seed=1), hidden)


@pytest.mark.parametrize("name", CONFIGS)
def test_ours_load_there(tmp_path: Path, name: str) -> None:
    ours = ours_of(CONFIGS[name])
    ours.save(tmp_path / "model")
    assert_same_world(ours, peer.SyntheticModel.load_from_disk(tmp_path / "model"))


def test_sparse_tensors_are_noted_where_they_do_not_look(tmp_path: Path) -> None:
    ours = ours_of({})
    drawn = synthetic.ActivationGenerator(30, 0.2, use_sparse_tensors=True)
    model = synthetic.SyntheticModel(ours.cfg, ours.feature_dict, drawn)
    model.save(tmp_path / "model")
    assert synthetic.SyntheticModel.load_from_disk(tmp_path / "model").use_sparse_tensors
    assert_same_world(model, peer.SyntheticModel.load_from_disk(tmp_path / "model"))


@pytest.mark.parametrize(
    "given", ["hierarchy", "empty hierarchy", "correlation", "float64 vectors"]
)
def test_their_given_parts_load_here(tmp_path: Path, given: str) -> None:
    cfg = peer.SyntheticModelConfig.from_dict(SMALL)
    tree = {"feature_index": 1, "feature_id": "x", "children": [{"feature_index": 2}]}
    parts: dict[str, Any] = {}
    if given == "hierarchy":
        parts["hierarchy"] = peer.Hierarchy.from_dict({"roots": [tree]})
    if given == "empty hierarchy":
        parts["hierarchy"] = peer.Hierarchy(roots=[], modifier=None)
    if given == "correlation":
        parts["correlation_matrix"] = peer.generate_random_low_rank_correlation_matrix(30, 3)
    if given == "float64 vectors":
        parts["feature_dict"] = peer.FeatureDictionary(30, 5, initializer=None).double()
    theirs = peer.SyntheticModel(cfg, **parts)
    theirs.save(tmp_path / "model")
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path / "model")
    assert_same_world(loaded, theirs)
    assert loaded.sample(9).shape == (9, 5)
