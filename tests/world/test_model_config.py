"""The recipe of a world: dictionaries, presets and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import synthkern as synthetic

Config = synthetic.SyntheticModelConfig

NAN, INF = float("nan"), float("inf")

FULL = Config(
    num_features=40,
    hidden_dim=6,
    firing_probability=synthetic.LinearFiringProbabilityConfig(0.5, 0.1),
    hierarchy=synthetic.HierarchyConfig(3, (2, 4), 2, 0.5, 0, 1, True, True),
    orthogonalization=synthetic.OrthogonalizationConfig(3, 0.02, 16),
    correlation=synthetic.LowRankCorrelationConfig(4, 0.2, 9),
    std_firing_magnitudes=synthetic.FoldedNormalMagnitudeConfig(0.5, 0.5, None, 2.0),
    mean_firing_magnitudes=synthetic.ExponentialMagnitudeConfig(3.0, 1.0),
    bias=False,
    dtype="bfloat16",
    seed=2**64 - 1,
)


def test_defaults() -> None:
    config = Config(5, 3)
    assert config.firing_probability == synthetic.ZipfianFiringProbabilityConfig(1.0, 0.3, 0.01)
    assert config.hierarchy is config.orthogonalization is config.correlation is config.seed is None
    assert (config.std_firing_magnitudes, config.mean_firing_magnitudes) == (0.0, 1.0)
    assert (config.bias, config.dtype) == (1.0, "float32")
    assert synthetic.OrthogonalizationConfig().to_dict() == {
        "num_steps": 200,
        "lr": 0.01,
        "chunk_size": 1024,
    }
    assert synthetic.LowRankCorrelationConfig().to_dict() == {
        "rank": 32,
        "correlation_scale": 0.1,
        "seed": None,
    }


@pytest.mark.parametrize("config", [Config(5, 3), FULL], ids=["defaults", "full"])
def test_round_trip_through_json(config: synthetic.SyntheticModelConfig) -> None:
    data = json.loads(json.dumps(config.to_dict()))
    again = Config.from_dict(data)
    assert again == config
    assert again.to_dict() == config.to_dict() == data


def test_a_presets_fields_stand_where_nothing_else_is_said() -> None:
    data = {"preset": "synth-sae-bench-1k", "seed": 7, "correlation": None}
    config, preset = Config.from_dict(data), Config.preset("synth-sae-bench-1k")
    assert (config.seed, config.correlation) == (7, None)
    assert config.hierarchy == preset.hierarchy
    assert "preset" not in config.to_dict()


@pytest.mark.parametrize("preset", ["nothing", None, 1])
def test_a_preset_must_be_known(preset: Any) -> None:
    with pytest.raises(ValueError, match="name must be one of"):
        Config.from_dict({"preset": preset})


def test_parts_that_are_off_are_left_out() -> None:
    assert not {"noise", "sequence", "magnitude_distribution"} & Config(5, 3).to_dict().keys()


def test_to_dict_names_every_field() -> None:
    data = FULL.to_dict()
    assert data["num_features"] == 40
    assert data["firing_probability"] == {
        "generator_name": "linear",
        "max_prob": 0.5,
        "min_prob": 0.1,
    }
    assert data["hierarchy"]["branching_factor"] == [2, 4]
    assert data["orthogonalization"] == {"num_steps": 3, "lr": 0.02, "chunk_size": 16}
    assert data["correlation"] == {"rank": 4, "correlation_scale": 0.2, "seed": 9}
    assert data["mean_firing_magnitudes"]["generator_name"] == "exponential"
    assert data["bias"] is False
    assert data["dtype"] == "bfloat16"
    assert data["seed"] == 2**64 - 1


def test_from_dict_takes_configs_as_they_are_and_fills_in_the_rest() -> None:
    config = Config.from_dict(
        {"num_features": 5, "hidden_dim": 3, "correlation": FULL.correlation, "bias": 2}
    )
    assert config == Config(5, 3, correlation=FULL.correlation, bias=2)


def test_the_standard_workload_has_its_published_parameters() -> None:
    assert Config.preset("synth-sae-bench-16k") == Config(
        num_features=16_384,
        hidden_dim=768,
        firing_probability=synthetic.ZipfianFiringProbabilityConfig(
            exponent=0.5, max_prob=0.4, min_prob=5e-4
        ),
        hierarchy=synthetic.HierarchyConfig(
            total_root_nodes=128,
            branching_factor=4,
            max_depth=3,
            mutually_exclusive_portion=1.0,
            mutually_exclusive_min_depth=0,
            mutually_exclusive_max_depth=None,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        orthogonalization=synthetic.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=synthetic.LowRankCorrelationConfig(rank=25, correlation_scale=0.1, seed=None),
        std_firing_magnitudes=synthetic.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        mean_firing_magnitudes=synthetic.LinearMagnitudeConfig(start=5.0, end=4.0),
        bias=0.5,
        dtype="float32",
        seed=42,
    )


def test_the_standard_world_has_the_published_size(
    bench_world: synthetic.SyntheticModel,
) -> None:
    assert bench_world.hierarchy is not None
    assert bench_world.hierarchy.feature_indices_used == set(range(10_880))
    assert len(bench_world.hierarchy.roots) == 128
    norm = float(bench_world.feature_dict.bias.detach().double().norm())
    assert norm == pytest.approx(0.5, rel=1e-6)
    entries = bench_world.sample_sparse(4096, seed=1)
    # "About 34", and "about 25 over the first 4,096": to the unit they are given in. The mean of
    # 4,096 samples has a deviation of about 0.1.
    assert abs(entries.nnz / 4096 - 34) < 1
    assert abs(int((entries.indices < 4096).sum()) / 4096 - 25) < 1


@pytest.mark.parametrize(
    ("name", "num_features", "hidden_dim", "roots", "orthogonalized"),
    [
        ("1k", 1_024, 128, 8, True),
        ("4k", 4_096, 256, 32, True),
        ("16k", 16_384, 768, 128, True),
        ("131k", 131_072, 768, 2_048, False),
        ("1m", 1_048_576, 768, 16_384, False),
    ],
)
def test_presets_differ_in_size_only(
    name: str, num_features: int, hidden_dim: int, roots: int, orthogonalized: bool
) -> None:
    config = Config.preset(f"synth-sae-bench-{name}")
    assert (config.num_features, config.hidden_dim) == (num_features, hidden_dim)
    assert config.hierarchy is not None
    assert config.hierarchy.total_root_nodes == roots
    assert (config.orthogonalization is not None) is orthogonalized
    standard = Config.preset("synth-sae-bench-16k")
    assert standard.hierarchy is not None
    standard.num_features, standard.hidden_dim = num_features, hidden_dim
    if name in ("1k", "4k"):  # lowered, for as many active features per dimension
        assert isinstance(standard.firing_probability, synthetic.ZipfianFiringProbabilityConfig)
        standard.firing_probability.max_prob = {"1k": 0.314, "4k": 0.28}[name]
    standard.hierarchy.total_root_nodes = roots
    if not orthogonalized:
        standard.orthogonalization = None
    assert config == standard


def test_a_preset_is_the_callers_own() -> None:
    changed = Config.preset("synth-sae-bench-1k")
    assert changed.hierarchy is not None
    changed.hierarchy.max_depth = 9
    changed.seed = 7
    assert Config.preset("synth-sae-bench-1k") != changed


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of \[.*bench-16k.*\], got '16k'$"):
        Config.preset("16k")


BAD: list[tuple[str, list[Any], type[Exception]]] = [
    ("num_features", [0], ValueError),
    ("num_features", [5.0], TypeError),
    ("hidden_dim", [-1], ValueError),
    ("hidden_dim", [None], TypeError),
    ("firing_probability", [None, 0.1], TypeError),
    ("hierarchy", [5], TypeError),
    ("orthogonalization", [True], TypeError),
    ("correlation", [0.5], TypeError),
    ("std_firing_magnitudes", [-0.5, NAN, INF], ValueError),
    ("std_firing_magnitudes", [None], TypeError),
    ("mean_firing_magnitudes", [NAN, -INF], ValueError),
    ("mean_firing_magnitudes", ["1"], TypeError),
    ("bias", [-1.0, NAN, INF], ValueError),
    ("bias", ["1"], TypeError),
    ("dtype", ["float8", "torch.int64", None], ValueError),
    ("seed", [-1, 2**64], ValueError),
    ("seed", [1.0], TypeError),
]


@pytest.mark.parametrize(("name", "values", "error"), BAD)
def test_bad_fields_are_refused(name: str, values: list[Any], error: type[Exception]) -> None:
    for value in values:
        kwargs = {"num_features": 5, "hidden_dim": 3, name: value}
        message = rf"^{name} must .*got {re.escape(repr(value))}$"
        with pytest.raises(error, match=message):
            Config(**kwargs)
        with pytest.raises(error, match=message):
            Config.from_dict(kwargs)


@pytest.mark.parametrize(
    ("part", "name", "values", "error"),
    [
        ("orthogonalization", "num_steps", [-1], ValueError),
        ("orthogonalization", "num_steps", [1.5], TypeError),
        ("orthogonalization", "lr", [0.0, NAN, INF], ValueError),
        ("orthogonalization", "chunk_size", [0], ValueError),
        ("correlation", "rank", [0], ValueError),
        ("correlation", "rank", ["3"], TypeError),
        ("correlation", "correlation_scale", [-0.5, NAN, INF], ValueError),
        ("correlation", "seed", [-1], ValueError),
    ],
)
def test_bad_parts_are_refused(
    part: str, name: str, values: list[Any], error: type[Exception]
) -> None:
    kind: Any = type(getattr(FULL, part))
    for value in values:
        for make in (
            lambda bad: kind(**bad),
            kind.from_dict,
            lambda bad: Config.from_dict({"num_features": 5, "hidden_dim": 3, part: bad}),
        ):
            with pytest.raises(error, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
                make({name: value})


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"num_features": 5}, ValueError, r"config must have the keys \['hidden_dim'\], got "),
        ({}, ValueError, r"config must have the keys \['hidden_dim', 'num_features'\], got \[\]"),
        ({"n": 5}, ValueError, r"config has unknown keys \['n'\]; known are "),
        ([], TypeError, r"config must be a mapping, got \[\]"),
    ],
)
def test_bad_dictionaries_are_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Config.from_dict(data)


@pytest.mark.parametrize("part", ["hierarchy", "orthogonalization", "correlation"])
def test_unknown_keys_of_a_part_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match=rf"^{part} has unknown keys \['depth'\]; known are "):
        Config.from_dict({"num_features": 5, "hidden_dim": 3, part: {"depth": 1}})


def test_the_hubs_first_upload_lacks_one_setting() -> None:
    first, standard = (Config.preset(f"synth-sae-bench-16k{name}") for name in ("-v1", ""))
    assert first.hierarchy is not None
    assert not first.hierarchy.scale_children_by_parent
    first.hierarchy.scale_children_by_parent = True
    assert first == standard
