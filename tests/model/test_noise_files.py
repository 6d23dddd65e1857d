"""Worlds with noise: their recipes, fingerprints and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from saved_worlds import CONFIG, WEIGHTS, change_weights, load

import synthkern as synthetic
from synthkern import HiddenNoise, NoiseConfig
from synthkern.cli import main
from synthkern.model.fingerprint import canonical_config, config_fingerprint

Config = synthetic.SyntheticModelConfig
RECIPE = NoiseConfig(snr_db=6, rank=2)


def config(noise: NoiseConfig | None = RECIPE, **changes: Any) -> synthetic.SyntheticModelConfig:
    return Config(32, 6, seed=4, std_firing_magnitudes=0.5, noise=noise, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model with noise."""
    synthetic.SyntheticModel(config()).save(tmp_path / "model")
    return tmp_path / "model"


def tensors(folder: Path) -> set[str]:
    with safe_open(folder / WEIGHTS, "pt") as file:
        return set(file.keys())


# ---- recipes and fingerprints --------------------------------------------------------------------


def test_recipes_go_through_json() -> None:
    for noise in (RECIPE, NoiseConfig(std=0.5), None):
        made = config(noise)
        assert Config.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert "noise" not in config(None).to_dict()
    assert canonical_config(config())["noise"] == {"snr_db": 6, "rank": 2}


def test_the_same_world_for_the_same_seed() -> None:
    one, other = (synthetic.SyntheticModel(config()) for _ in range(2))
    assert torch.equal(one.sample(5, seed=1), other.sample(5, seed=1))
    assert one.fingerprint == other.fingerprint
    plain = synthetic.SyntheticModel(config(None))
    assert torch.equal(plain.sample(5, seed=1), one.sample(5, seed=1, noise=False))


def test_no_seed_takes_torchs_generator() -> None:
    recipe = Config(8, 4, noise=NoiseConfig(std=1.0, rank=1))
    torch.manual_seed(0)
    one, other = synthetic.SyntheticModel(recipe), synthetic.SyntheticModel(recipe)
    assert not torch.equal(one.feature_dict.noise.factor, other.feature_dict.noise.factor)


def test_fingerprints_are_of_the_noise_too() -> None:
    made, plain = synthetic.SyntheticModel(config()), synthetic.SyntheticModel(config(None))
    assert config_fingerprint(made.cfg) != config_fingerprint(plain.cfg)
    before = made.fingerprint
    with torch.no_grad():
        made.feature_dict.noise.factor[0, 0] += 0.1
    assert made.fingerprint != before
    noise = made.feature_dict.noise
    bare = plain.fingerprint
    plain.feature_dict.noise = HiddenNoise(0.0)
    assert plain.fingerprint != bare
    plain.feature_dict.noise = HiddenNoise(noise.std)
    without = plain.fingerprint
    plain.feature_dict.noise = HiddenNoise(noise.std, noise.factor)
    assert plain.fingerprint != without
    plain.feature_dict.noise = None
    assert plain.fingerprint == bare


def test_one_number_is_the_same_world_as_many() -> None:
    made = synthetic.SyntheticModel(config(None))
    made.feature_dict.noise = HiddenNoise(0.5)
    before = made.fingerprint
    made.feature_dict.noise = HiddenNoise(torch.full((6,), 0.5))
    assert made.fingerprint == before


# ---- files ---------------------------------------------------------------------------------------


def test_what_is_read_back(folder: Path) -> None:
    made, read = synthetic.SyntheticModel(config()), load(folder)
    assert read.cfg == made.cfg
    assert read.fingerprint == made.fingerprint
    assert torch.equal(read.sample(9, seed=1, start=3), made.sample(9, seed=1, start=3))
    for name in ("std", "factor"):
        both = (getattr(each.feature_dict.noise, name) for each in (made, read))
        assert torch.equal(*both)
    assert {"noise_std", "noise_factor"} < tensors(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_noise_of_other_dtypes_is_kept_whole(dtype: str, tmp_path: Path) -> None:
    made = synthetic.SyntheticModel(config(dtype=dtype))
    made.save(tmp_path / "model")
    read = load(tmp_path / "model")
    assert read.feature_dict.noise.factor.dtype == torch.float32
    assert torch.equal(read.sample(9, seed=1), made.sample(9, seed=1))


def test_worlds_without_noise_have_no_such_tensors(tmp_path: Path) -> None:
    made = synthetic.SyntheticModel(config(None))
    made.save(tmp_path / "model")
    assert not [name for name in tensors(tmp_path / "model") if "noise" in name]
    assert load(tmp_path / "model").feature_dict.noise is None
    made.feature_dict.noise = HiddenNoise(0.5)
    made.save(tmp_path / "isotropic")
    assert "noise_factor" not in tensors(tmp_path / "isotropic")
    read = load(tmp_path / "isotropic")
    assert torch.equal(read.sample(9, seed=1), made.sample(9, seed=1))
    assert read.fingerprint == made.fingerprint


def test_noise_that_was_taken_away_is_not_read_back(folder: Path, tmp_path: Path) -> None:
    read = load(folder)
    read.feature_dict.noise = None
    read.save(tmp_path / "without")
    again = load(tmp_path / "without")
    assert again.cfg.noise is None
    assert torch.equal(again.sample(5, seed=1), read.sample(5, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_std": None}, "noise needs noise_std"),
        ({"noise_std": torch.ones(5)}, r"noise_std must have the shape \[6\]"),
        ({"noise_factor": torch.ones(2, 5)}, r"noise_factor must have the shape \[rank, 6\]"),
        ({"noise_std": torch.full((6,), torch.nan)}, "noise_std must be finite"),
        ({"noise_std": -torch.ones(6)}, "std must hold finite numbers >= 0, got -1.0"),
        ({"noise_std": torch.ones(6)}, "must hold the world that was saved there"),
    ],
    ids=["none", "narrow", "narrow factor", "NaN", "negative", "another"],
)
def test_damaged_files(folder: Path, change: dict[str, Any], message: str) -> None:
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata()

    def damage(tensors: dict[str, torch.Tensor]) -> None:
        for name, value in change.items():
            del tensors[name]
            if value is not None:
                tensors[name] = value

    change_weights(folder, damage, **metadata)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_the_cache_of_worlds(tmp_path: Path) -> None:
    recipe = config(orthogonalization=synthetic.OrthogonalizationConfig(num_steps=5))
    cache = synthetic.WorldCache(tmp_path / "cache")
    built = synthetic.SyntheticModel.load_from_source(recipe, cache=cache)
    assert len(cache.worlds()) == 1
    loaded = synthetic.SyntheticModel.load_from_source(recipe, cache=cache)
    assert torch.equal(loaded.sample(9, seed=1), built.sample(9, seed=1))
    assert torch.equal(loaded.sample(9, seed=1), synthetic.SyntheticModel(recipe).sample(9, seed=1))
    assert loaded.fingerprint == built.fingerprint


def test_samples_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = tmp_path / "world.json", tmp_path / "out"
    recipe.write_text(json.dumps(config().to_dict()))
    arguments = ["sample", str(recipe), "--samples", "50", "--seed", "7", "--out", str(out)]
    assert main([*arguments, "--batch-size", "40"]) == 0
    made = synthetic.SyntheticModel(config())
    shard = out / "shard-000001.safetensors"
    drawn = safetensors.torch.load_file(shard)["hidden"]
    assert torch.equal(drawn, made.sample(10, seed=7, start=40))
    before = shard.read_bytes()
    shard.unlink()
    assert main([*arguments, "--batch-size", "40"]) == 0
    assert shard.read_bytes() == before
    assert main(["describe", str(out / "model")]) == 0
    assert "SNR 6.00 dB" in capsys.readouterr().out
    shutil.rmtree(out)


# ---- parts that are given ------------------------------------------------------------------------


def test_a_dictionary_that_is_given_keeps_its_noise_or_has_none() -> None:
    noise = HiddenNoise(0.25)
    given = synthetic.FeatureDictionary(32, 6, initializer=None, seed=0, noise=noise)
    made = synthetic.SyntheticModel(config(), given)
    assert made.feature_dict.noise is noise
    given.noise = None
    with pytest.warns(UserWarning, match="feature_dict has no noise and is used as it is"):
        made = synthetic.SyntheticModel(config(), given)
    assert made.feature_dict.noise is None


def test_a_generator_that_is_given_decides_the_ratio() -> None:
    generator = synthetic.ActivationGenerator(32, 0.5, mean_firing_magnitudes=2.0)
    made = synthetic.SyntheticModel(config(), activation_generator=generator)
    told = made.describe().noise
    assert told is not None
    assert told.signal.value == pytest.approx(32 * 4 * 0.25, rel=1e-5)
    assert told.snr_db == pytest.approx(6, abs=1e-3)


def test_a_subclass_that_makes_another_dictionary_is_told() -> None:
    class Other(synthetic.SyntheticModel):
        def _create_feature_dict(self) -> Any:
            embedding = torch.nn.Linear(32, 6)
            embedding.feature_vectors = torch.eye(32, 6)
            return embedding

    with pytest.raises(TypeError, match="feature_dict must be a FeatureDictionary to be given"):
        Other(config())


def test_no_config_is_left_in_the_folder_of_a_recipe_that_cannot_be_built(tmp_path: Path) -> None:
    path = tmp_path / CONFIG
    path.write_text(json.dumps({"num_features": 8, "hidden_dim": 4, "noise": {"sd": 1.0}}))
    assert main(["describe", str(path)]) != 0
