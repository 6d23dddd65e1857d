"""SAEs of a user's own, from Python files and from packages' entry points, in a suite."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from small_suites import OWN, assert_as_alone, small_suite, write_suite

from synthkern.cli import main
from synthkern.sae import registry
from synthkern.suite.database import RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.plugins import load_architectures
from synthkern.suite.suite import load_suite
from synthkern.suite.supervisor import run_suite


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Architectures that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
    torch.set_num_threads(1)


def own_file(place: Path, architecture: str = "mine", body: str = "") -> Path:
    text = Path(OWN).read_text().replace('"troubled"', f'"{architecture}"')
    path = place / f"{architecture}.py"
    path.write_text(text + body)
    return path


def test_a_files_classes_are_registered_once(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    assert load_architectures(path) == ["mine"]
    assert load_architectures(path) == ["mine"]
    # It may do so itself.
    own = own_file(tmp_path, "other", "import synthkern\n")
    own.write_text(own.read_text() + "synthkern.register_architecture('other', TroubledSAE)\n")
    assert load_architectures(own) == ["other"]


def test_files_that_offer_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.py must be a Python file, but there is"):
        load_architectures(tmp_path / "none.py")
    path = tmp_path / "empty.py"
    path.write_text("from synthkern.sae import TopKTrainingSAE\n")
    with pytest.raises(ValueError, match=r"empty.py must define a subclass of TrainingSAE"):
        load_architectures(path)
    path.write_text("raise ImportError('no such thing')\n")
    with pytest.raises(ValueError, match=r"empty.py fails: ImportError: no such thing"):
        load_architectures(path)
    path.write_text("def (:\n")
    with pytest.raises(ValueError, match=r"empty.py fails: SyntaxError: "):
        load_architectures(path)
    with pytest.raises(ValueError, match=r"defines the architecture 'topk', which there is"):
        load_architectures(own_file(tmp_path, "topk"))


def test_a_file_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, own = write_suite(tmp_path, seeds=[0]), own_file(tmp_path)
    out = tmp_path / "out"
    assert main(["bench", str(suite), "--sae", str(own), "--out", str(out)]) == 0
    assert "mine" in capsys.readouterr().out
    runs = RunDatabase(out).runs()
    assert [run.sae for run in runs] == ["TopK", "mine"]
    # It is a TopK SAE.
    assert runs[0].metrics == runs[1].metrics
    assert_as_alone(out, runs)


def test_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file(tmp_path, "plugged")
    info = tmp_path / "plugged_sae-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-sae\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[synthkern.architectures]\nplugged = plugged:TroubledSAE\nbroken = plugged:NoSuchSAE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    suite = small_suite(seeds=[0], saes={"Plugged": "plugged"})
    runs = run_suite(suite, tmp_path / "out")
    assert_as_alone(tmp_path / "out", runs)
    with pytest.raises(ValueError, match=r"saes\['A'\]: .*NoSuchSAE"):
        plan_runs(small_suite(saes={"A": "broken"}))


def test_a_suites_file_is_looked_for_beside_it(tmp_path: Path) -> None:
    own_file(tmp_path, "beside")
    suite = write_suite(tmp_path, saes={"A": {"architecture": "beside", "file": "beside.py"}})
    assert [run.config["sae"]["architecture"] for run in plan_runs(load_suite(suite))] == [
        "beside",
        "beside",
    ]
