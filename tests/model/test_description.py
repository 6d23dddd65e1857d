"""A world's table, the commands that print it, and the character that small presets keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import synthkern as synthetic
from synthkern.cli import main
from synthkern.model.fingerprint import config_fingerprint
from synthkern.world.presets import ABOUT, PRESETS


def small() -> synthetic.SyntheticModelConfig:
    return synthetic.SyntheticModelConfig(
        num_features=20,
        hidden_dim=4,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.5),
        hierarchy=synthetic.HierarchyConfig(2, 2, 2, mutually_exclusive_portion=1.0),
        mean_firing_magnitudes=3.0,
        std_firing_magnitudes=0.0,
        seed=1,
    )


def test_a_table_of_a_world_counted_by_hand() -> None:
    """Two roots, four and eight below, pairs of which one is kept; six features are free."""
    table = synthetic.SyntheticModel(small()).describe()
    # A member of a pair is kept with 1/2 * (1/2 + 1/2 * 1/2) = 3/8 of its parent's rate.
    rates = {"0": 0.5, "1": 0.5 * 3 / 8, "2": 0.5 * 9 / 64, "free": 0.5}
    sizes = {"0": 2, "1": 4, "2": 8, "free": 6, "all": 20}
    rates["all"] = sum(rates[name] * sizes[name] for name in rates) / 20
    assert {level.name: level.num_features for level in table.levels} == sizes
    for level in table.levels:
        assert level.effective == pytest.approx(rates[level.name])
        assert level.l0 == pytest.approx(rates[level.name] * sizes[level.name])
        assert (level.requested, level.mean_magnitude, level.std_magnitude) == (0.5, 3.0, 0.0)
    assert [level.exclusive for level in table.levels] == [0, 1, 1, 0, pytest.approx(0.6)]
    lines = str(table).splitlines()
    assert lines[0].startswith("20 features in 4 dimensions; L0 5.31, 1.3281 for each dimension")
    assert lines[1] == "effective rates: closed form"
    assert lines[6].split() == ["1", "4", "100%", "0.5", "0.188", "0.375", "0.75", "3", "0"]
    assert len({len(line) for line in lines[3:-2]}) == 1


def test_requested_rates_without_a_seed_are_the_generators() -> None:
    cfg = small()
    cfg.seed, cfg.firing_probability = None, synthetic.RandomFiringProbabilityConfig(0.9, 0.1)
    model = synthetic.SyntheticModel(cfg)
    requested = model.describe().requested.float()
    assert torch.equal(requested, model.activation_generator.firing_probabilities)


def test_describe_reads_configs_and_saved_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = small()
    expected = str(synthetic.SyntheticModel(cfg).describe()) + "\n"
    (tmp_path / "world.json").write_text(json.dumps(cfg.to_dict()))
    synthetic.SyntheticModel(cfg).save(tmp_path / "model")
    for name in ("world.json", "model"):
        assert main(["describe", str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == expected
    *table, digits = expected.splitlines()
    assert digits == f"fingerprint of the world: {synthetic.SyntheticModel(cfg).fingerprint}"
    assert main(["describe", "--quick", str(tmp_path / "world.json")]) == 0
    assert capsys.readouterr().out.splitlines() == table
    assert table[-1] == f"fingerprint of the config: {config_fingerprint(cfg)}"
    assert main(["describe", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS) == list(ABOUT)
    assert lines[2].split()[1:5] == ["16,384", "features", "768", "dimensions"]


@pytest.mark.parametrize("name", ["synth-sae-bench-1k", "synth-sae-bench-4k"])
def test_small_presets_keep_the_character_of_the_full_one(name: str) -> None:
    table = synthetic.describe_world(synthetic.SyntheticModelConfig.preset(name))
    # SynthSAEBench-16k: 34.48 in 768 dimensions, 10,880 of 16,384 features in trees.
    assert table.levels[-1].l0 / table.hidden_dim == pytest.approx(34.48 / 768, rel=0.01)
    assert [level.name for level in table.levels] == ["0", "1", "2", "3", "free", "all"]
    inside = sum(level.num_features for level in table.levels[:4])
    assert inside / table.num_features == pytest.approx(10880 / 16384)
    assert [level.exclusive for level in table.levels[:5]] == [0, 1, 1, 1, 0]
    ratios = [level.effective / level.requested for level in table.levels[:5]]
    assert ratios == pytest.approx([1, 0.74, 0.46, 0.35, 1], abs=0.06)
