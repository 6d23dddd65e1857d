"""The command that evaluates an SAE, of whoever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_training import D, M, small_sae, small_world

from synthkern.cli import main
from synthkern.evaluation.files import read_evaluation


@pytest.fixture
def world(tmp_path: Path) -> str:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(small_world().cfg.to_dict()))
    return str(path)


def evaluate(*words: str) -> int:
    return main(["eval", *words, "--samples", "200"])


def test_a_file_of_weights(world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sae = small_sae("topk", rescale_acts_by_decoder_norm=False)
    path, out = tmp_path / "theirs.safetensors", tmp_path / "out"
    # As torch.nn.Linear has them, and no biases: the world's width tells.
    save_file({"W_enc": sae.W_enc.T.contiguous().detach(), "W_dec": sae.W_dec.detach()}, path)
    said = ["--activation", "topk", "--k", "3", "--zero-biases", "--world", world]
    assert evaluate(str(path), *said, "--out", str(out)) == 0
    result = read_evaluation(out)
    assert f"{result.mcc:.4f}" in capsys.readouterr().out
    sae.save_inference_model(tmp_path / "sae")
    assert evaluate(str(tmp_path / "sae"), "--world", world) == 0
    assert read_evaluation(tmp_path / "sae").classification == result.classification
    # Without a folder nothing is written.
    before = sorted(tmp_path.rglob("*"))
    assert evaluate(str(path), *said) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_an_object_of_a_python_file(world: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "import torch\n"
        "class Own:\n"
        f"    W_dec = torch.ones({M}, {D})\n"
        "    def encode(self, x): return (x @ self.W_dec.T).relu()\n"
        "    def decode(self, z): return z @ self.W_dec\n"
    )
    assert evaluate(f"{path}:Own", "--world", world, "--out", str(tmp_path / "out")) == 0
    assert read_evaluation(tmp_path / "out").uniqueness == 1 / M


def test_what_is_missing_is_told(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"W_enc": torch.ones(5, 7), "W_dec": torch.ones(7, 5)}, path)
    for words, message in (
        ([str(path)], "activation must be given with a .safetensors file"),
        ([str(path), "--activation", "relu"], "--world must be given, as nothing beside"),
        ([str(path), "--activation", "relu", "--world", world], "must hold b_enc, b_dec"),
        (
            [str(path), "--activation", "relu", "--world", world, "--zero-biases"],
            f"W_enc must have a side of d_in = {D}, got [5, 7]",
        ),
        ([str(tmp_path / "none")], "source must be a directory, a .safetensors file"),
        (["owner/name:path"], "--world must be given"),
        ([str(tmp_path / "a.py"), "--world", world], "as 'file.py:name'"),
    ):
        assert evaluate(*words) == 2, words
        assert message in capsys.readouterr().err
