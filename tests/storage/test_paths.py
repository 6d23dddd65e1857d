"""Paths as users give them, to whatever takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_training import small_config, small_world

import synthkern as synthetic
from synthkern.data.shards import SampleJob, write_samples
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.sae import TrainingSAE, make_sae
from synthkern.storage.paths import as_path
from synthkern.suite.database import RunDatabase
from synthkern.suite.report import read_report_data

WORLD = small_world()
SAE = make_sae(small_config("standard"))
HISTORY = synthetic.TrainingHistory([{"step": 1, "samples": 2, "loss": 3.0}])

#: What takes a path, by the name of the argument.
TAKERS: list[tuple[str, Callable[[Any], object]]] = [
    ("path", WORLD.save),
    ("path", synthetic.SyntheticModel.load_from_disk),
    ("source", synthetic.SyntheticModel.load_from_source),
    ("model", lambda path: synthetic.upload_synthetic_model_to_huggingface(path, "me/model")),
    ("path", SAE.save_model),
    ("path", SAE.save_inference_model),
    ("path", TrainingSAE.load_from_disk),
    ("checkpoint_path", SAE.load_weights_from_checkpoint),
    ("path", HISTORY.save),
    ("path", synthetic.TrainingHistory.load),
    ("checkpoint_dir", lambda path: synthetic.train_sae(SAE, WORLD, checkpoint_dir=path)),
    ("output_path", lambda path: run_config(output_path=path)),
    ("checkpoint_path", lambda path: run_config(checkpoint_path=path)),
    ("save_path", lambda path: synthetic.plot_training_curves(HISTORY, save_path=path)),
    ("directory", lambda path: write_samples(SampleJob(WORLD.cfg, 1, 0), path)),
    ("folder", read_evaluation),
    ("folder", lambda path: write_evaluation(path, None)),  # type: ignore[arg-type]
    ("SUITE", synthetic.load_suite),
    ("directory", lambda path: synthetic.run_suite("quick", path)),
    ("file", lambda path: synthetic.SuiteSAE("standard", path)),
    ("directory", RunDatabase),
    ("directory", read_report_data),
]


def run_config(**paths: Any) -> object:
    return synthetic.SyntheticSAERunnerConfig(WORLD.cfg, small_config("standard"), **paths)


@pytest.mark.parametrize(("name", "take"), TAKERS)
def test_what_is_no_path_is_refused_by_its_name(
    name: str, take: Callable[[Any], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("", "n\0ul", "y" * 256, Path("a", "ü" * 128)):
        with pytest.raises(ValueError, match=rf"^{name} must be a path"):
            take(value)
    for value in (b"bytes", 3):
        with pytest.raises(TypeError, match=rf"^{name} must be .*got {value!r}"):
            take(value)
    assert not list(tmp_path.iterdir())


def test_a_leading_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("path", "~") == tmp_path
    assert as_path("path", Path("~/a/~")) == tmp_path / "a" / "~"
    assert as_path("path", "~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")
    assert as_path("path", "y" * 255) == Path("y" * 255)
    WORLD.save("~/world")
    for source in ("~/world", Path("~/world")):
        loaded = synthetic.SyntheticModel.load_from_source(source)
        assert loaded.source == str(tmp_path / "world")
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_what_implements_pathlike_is_a_path(tmp_path: Path) -> None:
    class Own:
        def __fspath__(self) -> str:
            return str(tmp_path / "sae")

    SAE.save_model(Own())
    assert TrainingSAE.load_from_disk(Own()).W_dec.shape == SAE.W_dec.shape


def test_a_name_as_long_as_can_be_is_written_through_a_link(tmp_path: Path) -> None:
    name = tmp_path / "elsewhere" / ("ü" * 125 + ".json")
    name.parent.mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(name)
    HISTORY.save(link)
    assert link.is_symlink()
    assert synthetic.TrainingHistory.load(name).rows == HISTORY.rows
    with pytest.raises(ValueError, match="/dev/null must be a regular file"):
        HISTORY.save("/dev/null")
