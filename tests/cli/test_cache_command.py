"""The commands build a world once; and the command that lists, finds and clears such worlds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from building import nothing_is_built
from small_suites import small_suite, suite_data, write_suite
from small_training import small_world

import synthkern as synthetic
from synthkern.cli import main
from synthkern.suite.worlds import WORLDS_FOLDER, built_world

pytestmark = pytest.mark.usefixtures("one_thread")

SAE = ["--architecture", "topk", "--d-sae", "16", "--k", "2", "--samples", "128"]
FEW = ["--batch-size", "64", "--eval-samples", "100"]


def recipe(**changes: Any) -> dict[str, Any]:
    apart = {"num_steps": 2, "lr": 0.01}
    return {**small_world().cfg.to_dict(), "orthogonalization": apart, **changes}


@pytest.fixture
def world(tmp_path: Path) -> str:
    path = tmp_path / "world.json"
    path.write_text(json.dumps(recipe()))
    return str(path)


def sample(world: str, out: Path, *options: str) -> int:
    words = ["sample", world, "--samples", "100", "--seed", "7", "--out", str(out)]
    return main([*words, *options])


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_samples_of_a_world_that_is_kept(world: str, tmp_path: Path) -> None:
    assert sample(world, tmp_path / "plain", "--no-cache") == 0
    assert synthetic.WorldCache().worlds() == []
    assert sample(world, tmp_path / "first") == 0
    with nothing_is_built():
        assert sample(world, tmp_path / "second") == 0
    assert files(tmp_path / "first") == files(tmp_path / "plain")
    assert files(tmp_path / "second") == files(tmp_path / "plain")
    for number, off in enumerate((["--no-cache"], ["--cache-size", "0"])):
        with pytest.raises(AssertionError, match="was built"), nothing_is_built():
            sample(world, tmp_path / f"other-{number}", *off)


def test_the_size_of_the_environment(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNTHKERN_CACHE_SIZE", "0")
    assert sample(world, tmp_path / "off") == 0
    assert synthetic.WorldCache().worlds() == []
    assert sample(world, tmp_path / "on", "--cache-size", "1MB") == 0
    assert len(synthetic.WorldCache().worlds()) == 1
    monkeypatch.setenv("SYNTHKERN_CACHE_SIZE", "lots")
    assert sample(world, tmp_path / "none") == 2
    assert "SYNTHKERN_CACHE_SIZE must be a size such as 10GiB" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        sample(world, tmp_path / "none", "--cache-size", "lots")
    assert "--cache-size: SIZE must be a size such as 10GiB" in capsys.readouterr().err


def test_commands_that_train_measure_and_draw(world: str, tmp_path: Path) -> None:
    assert sample(world, tmp_path / "samples") == 0
    run = str(tmp_path / "run")
    with nothing_is_built():
        assert main(["train", world, "--out", run, *SAE, *FEW]) == 0
        assert main(["eval", run, "--samples", "100"]) == 0
        assert main(["eval", run, "--samples", "100", "--world", world]) == 0
        assert main(["plot", run]) == 0
    plain = str(tmp_path / "plain")
    assert main(["train", world, "--out", plain, *SAE, *FEW, "--no-cache"]) == 0
    assert main(["eval", plain, "--samples", "100", "--no-cache"]) == 0
    assert main(["plot", plain, "--no-cache"]) == 0
    weights = [Path(place, "sae_weights.safetensors").read_bytes() for place in (run, plain)]
    assert weights[0] == weights[1]
    # The config's own world, and not one that would have to be saved beside the SAE.
    assert not Path(run, "synthetic_model").exists()


@pytest.mark.filterwarnings("ignore:compensate_probabilities")
def test_a_world_with_exact_rates_is_described_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = {"total_root_nodes": 2, "branching_factor": 2, "compensate_probabilities": "exact"}
    path = tmp_path / "world.json"
    path.write_text(json.dumps(recipe(hierarchy=trees)))
    texts = []
    for options in (["--no-cache"], [], []):
        assert main(["describe", str(path), *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]
    with nothing_is_built():
        assert main(["describe", str(path)]) == 0


def test_a_suites_world(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, worlds={"small": recipe()}, seeds=[0])
    assert main(["bench", str(suite), "--out", str(tmp_path / "a")]) == 0
    assert len(synthetic.WorldCache().worlds()) == 1
    source = synthetic.SyntheticModelConfig.from_dict(recipe()).to_dict()
    with nothing_is_built():
        built_world(tmp_path / "b", source, "cpu", synthetic.WorldCache())
    built_world(tmp_path / "c", source, "cpu")
    assert main(["cache", "clear"]) == 0
    # The folder of results has its own.
    a, b, c = (files(tmp_path / name / WORLDS_FOLDER) for name in "abc")
    assert a
    assert a == b == c


def test_a_suite_from_python_keeps_nothing_unasked(tmp_path: Path) -> None:
    suite = small_suite(**{**suite_data(), "worlds": {"small": recipe()}, "seeds": [0]})
    synthetic.run_suite(suite, tmp_path / "out")
    assert synthetic.WorldCache().worlds() == []


def test_the_list_and_the_folder(
    world: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = synthetic.WorldCache().folder
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"0 worlds, 0 B of 10 GiB, in {folder}\n"
    sample(world, tmp_path / "samples")
    (kept,) = synthetic.WorldCache().worlds()
    os.utime(kept.folder / "world.json", (kept.used - 7300, kept.used - 7300))
    capsys.readouterr()
    for words in (["cache"], ["cache", "list"]):
        assert main(words) == 0
        head, row, total = capsys.readouterr().out.splitlines()
        assert head.split() == ["world", "key", "size", "used", "took"]
        assert row.startswith(f"{kept.name}  {kept.key[:12]}  ")
        assert "  2 h ago  " in row
        assert total.startswith("1 world, ")
    assert main(["cache", "where"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"


def test_clearing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        cfg = synthetic.SyntheticModelConfig.from_dict(recipe(seed=seed))
        synthetic.SyntheticModel.load_from_source(cfg, cache=synthetic.WorldCache())
    keys = [world.key for world in synthetic.WorldCache().worlds()]
    assert main(["cache", "clear", keys[1][:12]]) == 0
    assert [world.key for world in synthetic.WorldCache().worlds()] == [keys[0], keys[2]]
    capsys.readouterr()
    assert main(["cache", "clear", "nothing"]) == 2
    text = capsys.readouterr().err
    assert keys[0][:12] in text
    assert "WORLD must be one of" in text
    assert main(["cache", "clear"]) == 0
    assert "removed from" in capsys.readouterr().out
    assert synthetic.WorldCache().worlds() == []
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "clear", "nothing"]) == 2


def test_a_preset_is_listed_by_its_name() -> None:
    cfg = synthetic.SyntheticModelConfig.preset("synth-sae-bench-1k")
    cache = synthetic.WorldCache()
    synthetic.SyntheticModel.load_from_source(cfg, cache=cache)
    assert [world.name for world in cache.worlds()] == ["synth-sae-bench-1k"]


def test_a_folder_that_cannot_be_written_stops_no_command(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("SYNTHKERN_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="which cannot be written") as said:
        assert sample(world, tmp_path / "out") == 0
    assert len(said) == 1


def test_a_user_without_a_home(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SYNTHKERN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.warns(UserWarning, match="worlds are built without a cache: SYNTHKERN_CACHE must"):
        assert sample(world, tmp_path / "out") == 0
    assert main(["cache"]) == 2
    assert "SYNTHKERN_CACHE must name a folder" in capsys.readouterr().err
