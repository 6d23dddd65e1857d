"""Commands whose folders have the names that people give folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from small_suites import suite_data

from synthkern.cli import main

NAMES = [
    "größe-雪",
    "🙂 two  spaces",
    "./-dash",
    "100%d {x}",
    'it\'s "q"',
    "./new\nline",
    "a/../b/",
    "x" * 200,
]
#: What each command needs besides its folder.
SAMPLE = [
    "sample",
    "synth-sae-bench-1k",
    "--samples",
    "40",
    "--seed",
    "1",
    "--batch-size",
    "20",
    "--out",
]
TRAIN = [
    "train",
    "synth-sae-bench-1k",
    "--architecture",
    "topk",
    "--d-sae",
    "32",
    "--k",
    "4",
    "--samples",
    "128",
    "--batch-size",
    "64",
    "--eval-samples",
    "64",
    "--out",
]


def run(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_command_writes_and_reads_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    run(*SAMPLE, f"{name}/samples")
    run("describe", f"{name}/samples/model")
    run(*TRAIN, f"{tmp_path}/{name}/sae")
    run("eval", f"{name}/sae", "--samples", "64")
    run("plot", f"{tmp_path}/{name}/sae")
    suite = f"{name}/suite.yaml"
    Path(suite).write_text(yaml.safe_dump(suite_data(seeds=[0])))
    run("bench", suite, "--out", f"{name}/bench")
    run("report", f"{name}/bench")
    found = sorted(path.name for path in Path(name).iterdir())
    assert found == ["bench", "sae", "samples", "suite.yaml"]
    assert sorted(os.listdir(tmp_path)) == sorted({"a", Path(os.path.normpath(name)).name})


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    run(*SAMPLE, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "manifest.json").is_file()


@pytest.mark.parametrize("place", ["a file", "a file/below", "n\0ul", "y" * 300])
def test_what_can_be_no_folder_is_refused(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").write_text("mine")
    for command in (SAMPLE, TRAIN):
        assert main([*command, f"{tmp_path}/{place}"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "a file").read_text() == "mine"
