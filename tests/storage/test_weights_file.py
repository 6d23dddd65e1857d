"""The weights of a saved model: whatever is wrong with the file is told with its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_worlds import CONFIG, WEIGHTS, D, N, Tensors, change_json, change_weights, refused, world

import synthkern as synthetic

KNOWN = (
    "feature_vectors",
    "bias",
    "firing_probabilities",
    "mean_firing_magnitudes",
    "std_firing_magnitudes",
    "correlation_factor",
    "correlation_diag",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    world().save(tmp_path / "model")
    return tmp_path / "model"


def header_of(entries: Any, data: int) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("keep", [0, 5, 8, 200, 0.5, -1], ids=str)
def test_truncated_weights(folder: Path, keep: float) -> None:
    path = folder / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    refused(path, " must be a whole safetensors file, but ")


BROKEN = {
    "garbage": b"\xff" * 1000,
    "an archive": b"PK\x03\x04" + bytes(1000),
    "endless header": (2**63).to_bytes(8, "little") + b"{}",
    "no mapping": header_of([], 0),
    "no entry": header_of({"bias": 1}, 0),
    "metadata no text": header_of({"__metadata__": {"a": 1}}, 0),
    "data left over": header_of({"bias": entry([D], 0, 4 * D)}, 4 * D + 1),
    "data missing": header_of({"bias": entry([D], 0, 4 * D)}, 4 * D - 1),
    "shape too large": header_of({"bias": entry([D + 1], 0, 4 * D)}, 4 * D),
    "negative shape": header_of({"bias": entry([-D], 0, 4 * D)}, 4 * D),
    "shape overflows": header_of({"bias": entry([2**40, 2**40], 0, 4 * D)}, 4 * D),
    "hole": header_of({"bias": entry([D], 4, 4 * D + 4)}, 4 * D + 4),
    "overlap": header_of({"bias": entry([D], 0, 20), "a": entry([D], 0, 20)}, 20),
    "unknown dtype": header_of({"bias": {**entry([D], 0, 4 * D), "dtype": "F31"}}, 4 * D),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_weights_that_are_none(folder: Path, kind: str) -> None:
    path = folder / WEIGHTS
    path.write_bytes(BROKEN[kind])
    refused(path, " must be a whole safetensors file, but ")


def test_a_header_deeper_than_python_recurses(folder: Path) -> None:
    path = folder / WEIGHTS
    text = b"[" * 100_000 + b"]" * 100_000
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, " must be a whole safetensors file, but ")


@pytest.mark.parametrize("name", ["feature_vectors", "bias", "firing_probabilities"])
def test_a_missing_tensor(folder: Path, name: str) -> None:
    path = change_weights(folder, lambda tensors: tensors.pop(name))
    left = sorted({*KNOWN} - {name})
    required = "['feature_vectors', 'bias', 'firing_probabilities'] are required"
    refused(path, f": a model's file lacks tensors ['{name}']: found {left}, known ", required)


def test_unknown_tensors(folder: Path) -> None:
    path = change_weights(folder, lambda t: t.update({"W_dec": torch.ones(1), "b": torch.ones(1)}))
    refused(
        path,
        ": a model's file has unknown tensors ['W_dec', 'b']: found ['W_dec', 'b', 'bias', ",
        f"known {[*KNOWN, 'noise_std', 'noise_factor']}, of which ",
    )


@pytest.mark.parametrize("name", ["correlation_factor", "correlation_diag"])
def test_half_a_correlation(folder: Path, name: str) -> None:
    path = change_weights(folder, lambda tensors: tensors.pop(name))
    refused(path, ": correlation_factor and correlation_diag must come together, got ['bias', ")


def test_the_configs_correlation_is_missing(folder: Path) -> None:
    path = change_weights(
        folder, lambda t: (t.pop("correlation_factor"), t.pop("correlation_diag"))
    )
    refused(path, ": the config's correlation needs correlation_factor and ", "got ['bias', ")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("feature_vectors", [D, N], f"[{N}, {D}]"),
        ("feature_vectors", [N * D], f"[{N}, {D}]"),
        ("bias", [], f"[{D}]"),
        ("bias", [1, D], f"[{D}]"),
        ("firing_probabilities", [N + 1], f"[{N}]"),
        ("mean_firing_magnitudes", [1], f"[{N}]"),
        ("std_firing_magnitudes", [0], f"[{N}]"),
        ("correlation_factor", [3, N], f"[{N}, 3]"),
        ("correlation_factor", [N], f"[{N}, 3]"),
        ("correlation_factor", [N, 2], f"[{N}, 3]"),
        ("correlation_diag", [N, 1], f"[{N}]"),
    ],
)
def test_wrong_shapes(folder: Path, name: str, shape: list[int], expected: str) -> None:
    path = change_weights(folder, lambda tensors: tensors.update({name: torch.ones(shape)}))
    refused(path, f": {name} must have the shape {expected} of the config, got {shape}")


def test_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    other = synthetic.SyntheticModelConfig(N + 1, D, correlation=world().cfg.correlation)
    synthetic.SyntheticModel(other).save(tmp_path / "other")
    (folder / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    refused(folder / WEIGHTS, f" must have the shape [{N}", f" of the config, got [{N + 1}")


def test_sizes_that_no_memory_holds_are_not_asked_for(folder: Path) -> None:
    change_json(folder, CONFIG, lambda config: config.update(num_features=10**12))
    refused(folder / WEIGHTS, "must have the shape [1000000000000", f"got [{N}")


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn], ids=str)
def test_dtypes_that_are_no_numbers_here(folder: Path, name: str, dtype: torch.dtype) -> None:
    path = change_weights(folder, lambda t: t.update({name: t[name].to(dtype)}))
    refused(path, f": {name} must have one of the dtypes F16, BF16, F32, F64, got ")


def test_vectors_and_bias_of_two_dtypes(folder: Path) -> None:
    path = change_weights(folder, lambda t: t.update(bias=t["bias"].half()))
    refused(path, ": bias must be torch.float32 on cpu as feature_vectors, got torch.float16")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("name", KNOWN)
def test_numbers_that_are_not_finite(folder: Path, name: str, value: float) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[name].view(-1)[4] = value

    path = change_weights(folder, spoil)
    place = {"feature_vectors": [0, 4], "correlation_factor": [1, 1]}.get(name, [4])
    refused(path, f": {name} must be finite, got {value} at {place}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("firing_probabilities", 1.5, "must hold finite numbers >= 0 and <= 1, got 1.5 at [2]"),
        ("firing_probabilities", -0.5, "must hold finite numbers >= 0 and <= 1, got -0.5 at [2]"),
        ("std_firing_magnitudes", -0.5, "must hold finite numbers >= 0, got -0.5 at [2]"),
        ("mean_firing_magnitudes", 0.0, "must be > 0 where a parent scales its children, got 0.0"),
        ("correlation_diag", 0.0, "must hold finite numbers > 0, got 0.0 at [2]"),
        ("correlation_diag", 2.0, "must have a unit diagonal, got 2."),
    ],
)
def test_numbers_out_of_range(folder: Path, name: str, value: float, message: str) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[name][2] = value

    refused(change_weights(folder, spoil), ": ", name, message)


@pytest.mark.parametrize("flag", ["yes", "True", ""])
def test_a_flag_that_is_none(folder: Path, flag: str) -> None:
    path = change_weights(folder, lambda _: None, use_sparse_tensors=flag)
    refused(path, f': use_sparse_tensors must be "true" or "false" in the metadata, got {flag!r}')
