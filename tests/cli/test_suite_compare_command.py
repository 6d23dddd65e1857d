"""The command that compares, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import fill

from synthkern.cli import main
from synthkern.suite.database import RunDatabase


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")


def key(database: RunDatabase, *place: object) -> str:
    (found,) = (run.key for run in database.runs() if (run.sae, run.l0, run.seed) == place)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["compare", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_two_directories(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"), saes=("BatchTopK", "JumpReLU"))
    fill(Path("b"), saes=("BatchTopK", "Standard L1"), seeds=(0, 1, 2, 3), suite="other")
    assert main(["compare", "a", "b"]) == 0
    text = capsys.readouterr().out
    assert text.count("BatchTopK of a minus BatchTopK of b") == 2
    assert text.count("At L0 = 6 on synth-sae-bench-1k (3 pairs), ") == 1
    assert text.count("At L0 = 10 on synth-sae-bench-1k (3 pairs), ") == 1
    assert "16 runs have no partner: JumpReLU of a on synth-sae-bench-1k, L0 = 6, seeds" in text
    assert "not done" not in text


def test_two_saes_of_one_directory(capsys: pytest.CaptureFixture[str]) -> None:
    database = fill(Path("a"))
    assert main(["compare", "a", "--saes", "BatchTopK", "Standard L1"]) == 0
    text = capsys.readouterr().out
    assert "synth-sae-bench-1k, L0 = 6: BatchTopK minus Standard L1\n" in text
    assert "BatchTopK has a higher F1 than Standard L1 by 0.1" in text
    assert "no partner" not in text
    database.fail(key(database, "Standard L1", 6.0, 1), "ValueError: no")
    database.reset(key(database, "Standard L1", 10.0, 1))
    assert main(["compare", "a", "--saes", "Standard L1", "BatchTopK"]) == 0
    text = capsys.readouterr().out
    assert "Standard L1 has a lower F1 than BatchTopK by 0.1" in text
    assert "2 runs have no partner: BatchTopK on synth-sae-bench-1k, L0 = 6, seed 1; " in text
    assert text.endswith("not compared, as they are not done: of Standard L1 1 failed, 1 pending\n")


def test_saes_of_two_directories(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    fill(Path("b"))
    assert main(["compare", "a", "b", "--saes", "BatchTopK", "JumpReLU"]) == 0
    assert "L0 = 10: BatchTopK of a minus JumpReLU of b\n" in capsys.readouterr().out


def test_a_directory_with_itself_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    assert main(["compare", "a", "a", "--only", "BatchTopK,l0=6"]) == 0
    text = capsys.readouterr().out
    assert text.count(" minus ") == 1
    assert "F1, MCC, uniqueness, explained variance, L0 and dead latents of BatchTopK of a" in text
    assert "are the same." in text


def test_runs_of_one_suite(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"), suite="one", l0s=(6.0,))
    fill(Path("a"), suite="two", l0s=(6.0,), shift=0.1)
    words = ("a", "--saes", "BatchTopK", "JumpReLU")
    assert "the suites one and two both have BatchTopK on" in refusal(capsys, *words)
    assert main(["compare", *words, "--suite", "two"]) == 0
    assert "BatchTopK minus JumpReLU" in capsys.readouterr().out
    assert "--suite must be one of one, two, which a has, got 'three'" in refusal(
        capsys, *words, "--suite", "three"
    )


def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    fill(Path("b"), l0s=(6.0,), seeds=(7, 8))
    RunDatabase("empty", create=True)
    assert "one DIR needs --saes with two of its SAEs: BatchTopK, Standard L1, JumpReLU" in refusal(
        capsys, "a"
    )
    assert "DIR must be one directory or two, got 3" in refusal(capsys, "a", "b", "a")
    assert "--saes must name two SAEs, got 'JumpReLU' twice" in refusal(
        capsys, "a", "--saes", "JumpReLU", "JumpReLU"
    )
    assert "--saes must name SAEs of a, BatchTopK, Standard L1, JumpReLU; got 'TopK'" in refusal(
        capsys, "a", "--saes", "JumpReLU", "TopK"
    )
    assert "missing must be a directory of 'synthkern bench'" in refusal(capsys, "a", "missing")
    assert "empty has no runs yet" in refusal(capsys, "empty", "a")
    assert "b: --only must name some of" in refusal(capsys, "a", "b", "--only", "l0=10")
    assert (
        "a and b have no finished runs of the same world, L0, seed and SAE: a has BatchTopK, "
        "Standard L1, JumpReLU on synth-sae-bench-1k, L0 = 6; synth-sae-bench-1k, L0 = 10 with "
        "seeds 0, 1, 2, b has BatchTopK, Standard L1, JumpReLU on synth-sae-bench-1k, L0 = 6 with "
        "seeds 7, 8" in refusal(capsys, "a", "b")
    )


def test_nothing_finished_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    database = fill(Path("a"), l0s=(6.0,), seeds=(0,))
    database.reset(key(database, "JumpReLU", 6.0, 0))
    message = refusal(capsys, "a", "--saes", "JumpReLU", "BatchTopK")
    assert "JumpReLU and BatchTopK have no finished runs of the same world, L0 and seed" in message
    assert "JumpReLU has none, BatchTopK has BatchTopK on" in message
