"""The command line: samples on disk, continued after an interruption, and the machine's report."""

from __future__ import annotations

import filecmp
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import synthkern as synthetic
from synthkern.cli import main
from synthkern.data import shards

WORLD = {
    "num_features": 100,
    "hidden_dim": 12,
    "hierarchy": {"total_root_nodes": 5, "branching_factor": 3, "scale_children_by_parent": True},
    "correlation": {"rank": 3},
    "std_firing_magnitudes": {"generator_name": "folded_normal", "mean": 0.5, "std": 0.5},
    "seed": 3,
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(WORLD))
    return path


def run(world: Path, out: Path, *options: str) -> int:
    arguments = ["sample", str(world), "--samples", "250", "--seed", "7", "--out", str(out)]
    return main([*arguments, "--batch-size", "64", *options])


def same_bytes(a: Path, b: Path) -> bool:
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    if names != sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file()):
        return False
    _, mismatch, errors = filecmp.cmpfiles(a, b, map(str, names), shallow=False)
    return not mismatch and not errors


@pytest.mark.parametrize("what", ["hidden", "features", "both"])
def test_the_shards_are_the_stream(world: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    assert run(world, out, "--what", what, "--start", "1000") == 0
    model = synthetic.SyntheticModel.load_from_disk(out / "model")
    built = synthetic.SyntheticModel(synthetic.SyntheticModelConfig.from_dict(WORLD))
    assert torch.equal(built.sample(50, seed=1), model.sample(50, seed=1))
    hidden, features = model.sample_with_features(250, sparse=True, seed=7, start=1000)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [shard["samples"] for shard in manifest["shards"]] == [64, 64, 64, 58]
    assert [shard["start"] for shard in manifest["shards"]] == [1000, 1064, 1128, 1192]
    first = 0
    for shard in manifest["shards"]:
        tensors = safetensors.torch.load_file(out / shard["file"])
        rows = slice(first, first + shard["samples"])
        expected = {}
        if what != "features":
            expected["hidden"] = hidden[rows]
        if what != "hidden":
            part = features[rows]
            expected.update(offsets=part.offsets, indices=part.indices, values=part.values)
        assert tensors.keys() == expected.keys()
        for key, value in expected.items():
            assert tensors[key].dtype == value.dtype
            assert torch.equal(tensors[key], value), key
        first = rows.stop
    assert first == 250


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_run_again_it_restores_what_is_missing(world: Path, tmp_path: Path, damage: str) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(world, whole, "--what", "both") == 0
    assert run(world, cut, "--what", "both") == 0
    shard = cut / "shard-000002.safetensors"
    untouched = (cut / "shard-000001.safetensors").stat().st_mtime_ns
    if damage == "missing":
        shard.unlink()
    else:
        data = shard.read_bytes()
        shard.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    (cut / ".shard-000003.safetensors.abc.tmp").write_bytes(b"left by a killed run")
    assert run(world, cut, "--what", "both") == 0
    assert same_bytes(whole, cut)
    assert (cut / "shard-000001.safetensors").stat().st_mtime_ns == untouched


def test_a_killed_run_ends_with_the_same_bytes(world: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ["--samples", "40000", "--seed", "1", "--batch-size", "100", "--what", "both"]
    command = [sys.executable, "-m", "synthkern", "sample", str(world), *options, "--out"]
    # Elsewhere than in the checkout, whose sources Python would find before the package.
    with subprocess.Popen([*command, str(cut)], stderr=subprocess.PIPE, cwd=tmp_path) as killed:
        assert killed.stderr is not None
        # The progress bar moves on as shards are written.
        while not list(cut.glob("shard-00001*")) and killed.stderr.read(1):
            pass
        killed.send_signal(signal.SIGKILL)
    assert 0 < len(list(cut.glob("shard-*"))) < 400
    assert main(["sample", str(world), *options, "--out", str(cut)]) == 0
    assert main(["sample", str(world), *options, "--out", str(whole)]) == 0
    assert same_bytes(whole, cut)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [("--seed", "8", "seed = 7, not 8"), ("--what", "both", "what"), ("--start", "1", "start")],
)
def test_another_job_is_refused(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    named: str,
) -> None:
    assert run(world, tmp_path / "out") == 0
    before = (tmp_path / "out" / "shard-000000.safetensors").read_bytes()
    assert run(world, tmp_path / "out", option, value) == 2
    assert named in capsys.readouterr().err
    assert (tmp_path / "out" / "shard-000000.safetensors").read_bytes() == before


def test_foreign_shards_are_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-000000.safetensors").write_bytes(b"whose?")
    assert run(world, out) == 2
    assert "shard-000000.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--samples", "-1"], "samples must be an integer >= 0, got -1"),
        (["--batch-size", "0"], "batch_size must be an integer >= 1, got 0"),
        (["--seed", str(2**64)], f"got {2**64}"),
        (["--start", "-5"], "start must be an integer >= 0"),
    ],
)
def test_bad_options_are_named(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    assert run(world, tmp_path / "out", *options) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_worlds_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "world.json"
    path.write_text(json.dumps({**WORLD, "features": 3}))
    for world, named in ((path, "unknown keys ['features']"), (tmp_path / "no", "bench-16k")):
        assert run(world, tmp_path / "out") == 2
        assert named in capsys.readouterr().err


def test_no_samples_leave_a_manifest(world: Path, tmp_path: Path) -> None:
    assert run(world, tmp_path / "out", "--samples", "0") == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["shards"] == []


def test_an_interruption_is_told(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_draw", interrupt)
    assert run(world, tmp_path / "out") == 130
    assert "continues" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(world, tmp_path / "out") == 0


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    for expected in (synthetic.__version__, torch.__version__, "cpu, reference", "instruction set"):
        assert expected in shown


def test_files_of_others_stay(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".notes.tmp").mkdir(parents=True)
    (out / "paper.tex").write_text("mine")
    assert run(world, out) == 0
    assert (out / ".notes.tmp").is_dir()
    assert (out / "paper.tex").read_text() == "mine"


def test_another_model_in_the_way_is_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = synthetic.SyntheticModelConfig.from_dict({**WORLD, "seed": 4})
    synthetic.SyntheticModel(other).save(tmp_path / "out" / "model")
    assert run(world, tmp_path / "out") == 2
    assert "another one" in capsys.readouterr().err
