"""The config and the hierarchy of a saved model: whatever is wrong is told with the path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from saved_worlds import CONFIG, TREES, D, N, change_json, load, refused, world

import synthkern as synthetic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    world().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", [CONFIG, TREES])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must be a JSON file, but Expecting value"),
        (b'{"a": 1', "must be a JSON file, but Expecting"),
        (b"{} {}", "must be a JSON file, but Extra data"),
        (b"\xff\xfe{}", "must be a JSON file, but 'utf-8'"),
        (b'{"a": NaN}', "must be a JSON file, but NaN is no JSON number"),
        (b'{"a": -Infinity}', "must be a JSON file, but -Infinity is no JSON number"),
        (b"[" * 100_000 + b"]" * 100_000, "must be a JSON file, but it is nested too deep"),
        (b"[]", "must be a mapping, got []"),
        (b"null", "must be a mapping, got None"),
        (b'"text"', "must be a mapping, got 'text'"),
        (b'{"b": 1, "a": 1}', "has unknown keys ['a', 'b']; known are ["),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_that_is_none_or_says_something_else(
    folder: Path, name: str, text: bytes, message: str
) -> None:
    (folder / name).write_bytes(text)
    refused(folder / name, message)


def test_a_number_with_too_many_digits(folder: Path) -> None:
    (folder / CONFIG).write_text('{"num_features": 1' + "0" * 5000 + "}")
    refused(folder / CONFIG, " ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_features": 30.0}, "num_features must be an integer, got 30.0"),
        ({"dtype": ["float32"]}, "dtype"),
        ({"mean_firing_magnitudes": 1e39}, "mean_firing_magnitudes must be finite"),
        ({"correlation": {"rank": 0}}, "rank must be an integer >= 1, got 0"),
        ({"correlation": {"depth": 3}}, "has unknown keys ['depth']; known are ["),
        ({"firing_probability": {}}, "must have the key 'generator_name', got []"),
        (
            {"firing_probability": {"generator_name": ["zipfian"]}},
            "name must be a registered firing probability, got ['zipfian']; known are ",
        ),
        ({"mean_firing_magnitudes": {"generator_name": "linear"}}, "start"),
    ],
    ids=str,
)
def test_a_config_that_is_no_recipe(folder: Path, changes: dict[str, Any], message: str) -> None:
    refused(change_json(folder, CONFIG, lambda config: config.update(changes)), ": ", message)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"feature_index": N}, f"below num_features = {N}, got feature {N}"),
        ({"feature_index": "1"}, "feature_index must be an integer, got '1'"),
        ({"feature_index": 0}, "got feature 0 in two trees"),
        ({"children": 5}, "children must be a list, got 5 at organisational node"),
        ({"children": {"feature_index": 1}}, "children must be a list, got {'feature_index': 1}"),
        (["feature_index"], "hierarchy node must be a mapping, got ['feature_index']"),
    ],
    ids=str,
)
def test_a_node_that_is_none(folder: Path, node: Any, message: str) -> None:
    refused(change_json(folder, TREES, lambda data: data["roots"].append(node)), ": ", message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "hierarchy must have the key 'roots', got none"),
        ({"roots": 5}, "roots must be a list, got 5"),
    ],
    ids=str,
)
def test_a_hierarchy_that_is_none(folder: Path, data: Any, message: str) -> None:
    refused(change_json(folder, TREES, lambda _: data), f": {message}")


def test_the_configs_hierarchy_is_missing(folder: Path) -> None:
    (folder / TREES).unlink()
    refused(folder / TREES, " must be there, since the config has a hierarchy")


def chain(length: int) -> synthetic.SyntheticModel:
    node = synthetic.HierarchyNode(length - 1)
    for index in reversed(range(length - 1)):
        node = synthetic.HierarchyNode(index, [node])
    cfg = synthetic.SyntheticModelConfig(length, D)
    return synthetic.SyntheticModel(cfg, hierarchy=synthetic.Hierarchy([node]))


def test_a_deep_tree_lasts(tmp_path: Path) -> None:
    model = chain(200)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").hierarchy == model.hierarchy


def test_a_tree_deeper_than_json_is_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    world().save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with pytest.raises(ValueError, match=f"^{TREES} must not be nested deeper than JSON can be$"):
        chain(100_000).save(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_a_hierarchy_is_written_in_one_line(tmp_path: Path) -> None:
    """A million nodes take half the space so."""
    world().save(tmp_path)
    assert (tmp_path / TREES).read_text().count("\n") == 1
    assert (tmp_path / CONFIG).read_text().count("\n") > 10
