"""Recipes of views: what they refuse, and how they are written."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import synthkern as synthetic


def map_config(**fields: Any) -> synthetic.MapConfig:
    return synthetic.MapConfig(**{"num_outputs": 4, "hidden_dim": 3, **fields})


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({}, ValueError, "views must have hidden_dims or a map"),
        ({"hidden_dims": [0]}, ValueError, "hidden_dims must be an integer at least 1|>= 1"),
        ({"hidden_dims": 4}, TypeError, "hidden_dims must be a list, got 4"),
        ({"hidden_dims": [4], "biases": [1.0, 2.0]}, ValueError, "biases must be as many as"),
        ({"hidden_dims": [4], "biases": -1.0}, ValueError, "biases must be"),
        ({"hidden_dims": [4], "biases": "1"}, TypeError, "biases must be a list, got '1'"),
        ({"hidden_dims": [4], "exclusive_portion": 1.5}, ValueError, "exclusive_portion must be"),
        ({"hidden_dims": [4], "cosine": 1.01}, ValueError, "cosine must be .* got 1.01"),
        ({"hidden_dims": [4], "cosine": -2}, ValueError, "cosine must be .* got -2"),
        ({"hidden_dims": [4], "cosine": float("nan")}, ValueError, "cosine must be"),
        ({"hidden_dims": [4], "rotated_portion": 0.5}, ValueError, "rotated_portion must be 1"),
        ({"map": 4}, TypeError, "map must be a MapConfig or None, got 4"),
        ({"map": {"num_outputs": 4}}, TypeError, "hidden_dim"),
        ({"map": {"num_outputs": 4, "hidden_dim": 3, "x": 1}}, ValueError, "'x'"),
        ({"map": map_config(), "exclusive_portion": 0.5}, ValueError, "hidden_dims must name"),
        ({"map": map_config(), "cosine": 0.5}, ValueError, "hidden_dims must name"),
    ],
)
def test_views_that_are_refused(fields: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        synthetic.ViewsConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_outputs": 0}, "num_outputs must be"),
        ({"hidden_dim": 0}, "hidden_dim must be"),
        ({"fan_in": 0}, "fan_in must be"),
        ({"firing_probability": 0}, "firing_probability must be"),
        ({"firing_probability": 1.2}, "firing_probability must be"),
        ({"threshold": -0.1}, "threshold must be"),
        ({"negative_portion": 1}, "negative_portion must be below 1"),
        ({"bias": -1}, "bias must be"),
    ],
)
def test_maps_that_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        map_config(**fields)


@pytest.mark.parametrize(
    ("views", "says"),
    [
        (
            {"hidden_dims": [4, 4, 4], "exclusive_portion": 1.0},
            "exclusive_portion must leave each of 4 views a feature, got 1.0 of 3",
        ),
        (
            {"hidden_dims": [5], "cosine": 0.5},
            r"hidden_dims must be the world's 4 where .* got \[5\]",
        ),
        ({"map": map_config(fan_in=4)}, "fan_in must be at most .* 3, .* got 4"),
        (
            {"hidden_dims": [4], "exclusive_portion": 0.67, "map": map_config(fan_in=3)},
            "fan_in must be at most .* 2, .* got 3",
        ),
    ],
)
def test_worlds_that_cannot_have_such_views(views: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        synthetic.SyntheticModelConfig(3, 4, views=synthetic.ViewsConfig(**views))


def test_one_dimension_has_no_angles() -> None:
    with pytest.raises(ValueError, match="cosine must be -1 or 1 in a space of one dimension"):
        synthetic.SyntheticModelConfig(
            3, 1, views=synthetic.ViewsConfig(hidden_dims=[1], cosine=0.5)
        )
    for cosine in (-1, 1):
        views = synthetic.ViewsConfig(hidden_dims=[1], cosine=cosine)
        model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(3, 1, views=views))
        vectors = model.views.dictionaries[0].feature_vectors  # type: ignore[union-attr]
        assert vectors.equal(model.feature_dict.feature_vectors * cosine)


def test_a_recipe_is_read_as_it_was_written() -> None:
    views = synthetic.ViewsConfig(
        hidden_dims=(4, np.int64(5)),  # type: ignore[arg-type]
        biases=[True, np.float32(0.5)],  # type: ignore[list-item]
        exclusive_portion=0.5,
        map=map_config(threshold=0.25, negative_portion=0.5),
    )
    cfg = synthetic.SyntheticModelConfig(6, 4, views=views, seed=1)
    text = json.dumps(cfg.to_dict())
    assert synthetic.SyntheticModelConfig.from_dict(json.loads(text)) == cfg
    assert json.loads(text)["views"]["map"]["threshold"] == 0.25


def test_a_world_without_views_says_nothing_of_them() -> None:
    assert "views" not in synthetic.SyntheticModelConfig(3, 4).to_dict()
