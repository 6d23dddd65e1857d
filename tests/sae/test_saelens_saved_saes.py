"""Forms of SAELens' files that are not what this package writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import synthkern as synthetic


def test_thresholds_saved_as_logarithms(tmp_path: Path) -> None:
    sae = synthetic.JumpReLUTrainingSAE(synthetic.JumpReLUTrainingSAEConfig(4, 8))
    with torch.no_grad():
        sae.threshold.copy_(torch.linspace(0.01, 0.5, 8))
    weights, _ = sae.save_model(tmp_path / "sae")
    tensors = load_file(weights)
    tensors["log_threshold"] = tensors.pop("threshold").log()
    save_file(tensors, weights)
    read = synthetic.TrainingSAE.load_from_disk(tmp_path / "sae")
    # A logarithm and back: some units in the last place.
    torch.testing.assert_close(read.threshold, sae.threshold, rtol=1e-6, atol=0)


def test_a_whole_k_saved_as_a_float(tmp_path: Path) -> None:
    sae = synthetic.TopKTrainingSAE(synthetic.TopKTrainingSAEConfig(4, 8, k=2))
    _, recipe = sae.save_model(tmp_path / "sae")
    data = json.loads(recipe.read_text())
    recipe.write_text(json.dumps({**data, "k": 2.0}))
    read = synthetic.TrainingSAE.load_from_disk(tmp_path / "sae")
    assert type(read.cfg.k) is int
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read(x), sae(x))
    with pytest.raises(TypeError, match=r"k must be an integer, got 2\.5"):
        synthetic.TopKTrainingSAEConfig(4, 8, k=2.5)
