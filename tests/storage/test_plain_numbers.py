"""Numbers of NumPy and of tensors in every config: taken as Python's, and written as JSON."""

from __future__ import annotations

import enum
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic
from synthkern.data.shards import SampleJob
from synthkern.sae import files as sae_files

WORLD = synthetic.SyntheticModelConfig(64, 8, seed=1)

CONFIGS: list[Any] = [
    synthetic.TrainingConfig(
        seed=3, lr=1e-3, max_grad_norm=1.0, target_l0=3.0, resample_dead_every=9
    ),
    synthetic.SyntheticModelConfig(64, 8, std_firing_magnitudes=0.5, bias=True, seed=1),
    synthetic.SyntheticModelConfig(64, 8, bias=2.0, seed=1),
    synthetic.OrthogonalizationConfig(),
    synthetic.LowRankCorrelationConfig(seed=3),
    synthetic.SequenceConfig(8, [0.5, 0.25], 0.75),
    synthetic.NoiseConfig(snr_db=10.0, rank=2),
    synthetic.ViewsConfig(hidden_dims=[8], exclusive_portion=0.25),
    synthetic.MapConfig(num_outputs=3, hidden_dim=4),
    synthetic.ShiftConfig(num_forbidden_pairs=1, permuted_rates=0.5, correlation_seed=3),
    synthetic.ManifoldConfig(count=2, dimension=2, concentration=0.5),
    synthetic.ListedFiringProbabilityConfig([0.5, 0.25]),
    synthetic.ListedMagnitudeConfig([0.5, 0.25]),
    synthetic.HierarchyConfig(4, (2, 3), 2, 0.5, 0, 1, True),
    synthetic.ConstantMagnitudeConfig(1.5),
    synthetic.LinearMagnitudeConfig(1.0, 2.0),
    synthetic.ExponentialMagnitudeConfig(1.0, 2.0),
    synthetic.FoldedNormalMagnitudeConfig(1.0, 0.5, 0.25, 2.0),
    synthetic.ZipfianFiringProbabilityConfig(),
    synthetic.LinearFiringProbabilityConfig(),
    synthetic.RandomFiringProbabilityConfig(),
    synthetic.ConstantFiringProbabilityConfig(0.25),
    synthetic.StandardTrainingSAEConfig(8, 16),
    synthetic.TopKTrainingSAEConfig(8, 16, k=3),
    synthetic.AbsTopKTrainingSAEConfig(8, 16, k=3, k_start=5, k_anneal_steps=7),
    synthetic.BatchTopKTrainingSAEConfig(8, 16, k=3),
    synthetic.MatryoshkaBatchTopKTrainingSAEConfig(
        8, 16, k=3, matryoshka_widths=[4, 16], detach_levels=True
    ),
    synthetic.JumpReLUTrainingSAEConfig(8, 16),
    synthetic.GatedTrainingSAEConfig(8, 16),
    synthetic.MatchingPursuitTrainingSAEConfig(8, 16, decoder_init_norm=1.0),
    synthetic.CrosscoderTrainingSAEConfig(d_views=[8, 6], d_sae=16, k=3, sparsity="topk"),
    synthetic.TranscoderTrainingSAEConfig(d_in=8, d_out=6, d_sae=16, k=3, use_skip_connection=True),
    SampleJob(WORLD, samples=10, seed=1),
]


def numpys(value: Any) -> Any:
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, float):
        return np.float64(value)
    return type(value)(map(numpys, value)) if isinstance(value, list | tuple) else value


def tensors(value: Any) -> Any:
    return torch.tensor(value) if isinstance(value, bool | int) else value


def python_only(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(python_only, value))
    return not isinstance(value, np.generic | torch.Tensor)


def written(config: Any) -> str:
    return json.dumps(config.to_dict())


@pytest.mark.parametrize("convert", [numpys, tensors])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_field_of_every_config(config: Any, convert: Any) -> None:
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    same = type(config)(**{name: convert(value) for name, value in values.items()})
    assert same == config
    assert all(python_only(getattr(same, each.name)) for each in fields(config))
    if hasattr(config, "to_dict"):
        assert written(same) == written(config)
        assert type(config).from_dict(json.loads(written(same))) == config


def test_no_config_is_left_out() -> None:
    """A config that is exported and checks itself is among those above."""
    exported = {getattr(synthetic, name) for name in synthetic.__all__ if name.endswith("Config")}
    left = {
        kind.__name__
        for kind in exported - {type(config) for config in CONFIGS}
        if not getattr(kind, "__abstractmethods__", None)
    }
    assert left <= {"LoggingConfig", "SyntheticSAERunnerConfig", "TrainCoefficientConfig"}


@pytest.mark.parametrize("value", [np.array([3]), np.array("3"), torch.tensor([3]), 3j])
def test_what_is_no_number_stays_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="k must be an integer"):
        synthetic.TopKTrainingSAEConfig(8, 16, k=value)


class Colour(enum.Enum):
    RED = "red"


def test_metadata_of_other_types_is_written(tmp_path: Path) -> None:
    metadata = {
        "path": Path("a/b"),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "array": np.arange(3),
        "tensor": torch.ones(2),
        "nested": {"enum": Colour.RED, "tuple": (1, np.float32(0.5))},
    }
    cfg = synthetic.TopKTrainingSAEConfig(8, 16, k=3, metadata=metadata)
    sae = synthetic.TopKTrainingSAE(cfg)
    sae.cfg.metadata["later"] = np.int64(5)
    sae.save_model(tmp_path / "sae")
    assert json.loads((tmp_path / "sae" / sae_files.SAE_CFG_FILENAME).read_text())
    read = synthetic.TrainingSAE.load_from_disk(tmp_path / "sae").cfg.metadata
    assert read == {
        "path": "a/b",
        "dtype": "bfloat16",
        "device": "cpu",
        "array": [0, 1, 2],
        "tensor": [1.0, 1.0],
        "nested": {"enum": "red", "tuple": [1, 0.5]},
        "later": 5,
    }


def test_metadata_that_nothing_can_write_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"metadata\['a'\]\[1\] must be what JSON can hold"):
        synthetic.TopKTrainingSAEConfig(8, 16, k=3, metadata={"a": [1, object()]})
