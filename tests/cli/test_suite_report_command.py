"""The command that writes a report, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_runs import fill, fill_sweep
from packages import hide_plotly, pretend, pretend_kaleido
from report_pages import Page

from synthkern.cli import main
from synthkern.suite.export import write_csv, write_json


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).rglob("*"))


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["report", *words]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["report", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def test_the_page_is_in_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    assert printed(capsys, "a") == ["a/report.html"]
    assert files("a") == ["report.html", "suite.sqlite"]
    text = Path("a/report.html").read_text(encoding="utf-8")
    assert '<h1 id="title">Benchmark report: a</h1>' in text
    assert len(Page(text).runs) == 18


def test_the_page_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    assert printed(capsys, "a", "--out", "deep/er/page.html") == ["deep/er/page.html"]
    assert files("a") == ["suite.sqlite"]
    assert files("deep") == ["er", "page.html"]


def test_the_directory_where_one_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Path("a"))
    monkeypatch.chdir("a")
    assert printed(capsys, ".") == ["report.html"]
    assert "Benchmark report: a<" in Path("report.html").read_text(encoding="utf-8")


def test_exports_are_those_of_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    database = fill(Path("a"))
    words = ("a", "--export", "csv", "--export", "json", "--export", "csv")
    assert printed(capsys, *words) == ["a/report.html", "a/runs.csv", "a/runs.json"]
    write_csv(Path("runs.csv"), database.runs())
    write_json(Path("runs.json"), database)
    for name in ("runs.csv", "runs.json"):
        assert Path("a", name).read_bytes() == Path(name).read_bytes()
    assert len(json.loads(Path("a/runs.json").read_text())["runs"]) == 18


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_figures_are_beside_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    pretend_kaleido(monkeypatch, lambda _, path, format, scale: path.write_bytes(b"drawn"))
    fill(Path("a"), l0s=(6.0,))
    page, *drawn = printed(capsys, "a", "--figures", ending)
    assert page == "a/report.html"
    assert sorted(drawn) == [f"a/figures/{name}" for name in files("a/figures")]
    assert [name.rpartition(".")[2] for name in drawn] == [ending] * 4


def test_what_has_no_database_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    for name in ("missing", "empty", "file"):
        text = refusal(capsys, name, "--out", "page.html")
        assert text == (
            f"synthkern: {name} must be a directory of 'synthkern bench', but it has no "
            "suite.sqlite\n"
        )
    assert files(".") == ["empty", "file"]


def test_a_database_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").mkdir()
    Path("a/suite.sqlite").write_bytes(b"no database" * 1000)
    assert "a/suite.sqlite could not be used: " in refusal(capsys, "a")
    assert files("a") == ["suite.sqlite"]


def test_without_plotly_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Path("a"))
    hide_plotly(monkeypatch)
    for words in (("a",), ("a", "--figures", "png")):
        assert "pip install 'synthkern[plots]'" in refusal(capsys, *words)
    assert files("a") == ["suite.sqlite"]


def test_without_kaleido_there_is_no_half_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "kaleido", there=False)
    fill(Path("a"))
    assert "pip install 'synthkern[images]'" in refusal(capsys, "a", "--figures", "svg")
    assert files("a") == ["suite.sqlite"]


def test_a_folder_to_write_to_gets_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("a"))
    Path("b").mkdir()
    for folder in ("b", "new/", "of/new/"):
        page = str(Path(folder, "report.html"))
        assert printed(capsys, "a", "--out", folder) == [page]
        assert Path(page).is_file()
    Path("b/report.html").unlink()
    Path("b/report.html").mkdir()
    assert "b/report.html" in refusal(capsys, "a", "--out", "b")


def test_a_sweep_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    fill_sweep(Path("a"))
    lines = printed(capsys, "a", "--text", "--y", "mcc", "--best", "lowest mcc where l0 < 100")
    assert lines[0] == "MCC"
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["hidden_dim", dim] for dim in ("64", "128", "256")
    ]
    assert "lowest mcc where l0 < 100: 6 of 6 settings" in lines
    assert files("a") == ["suite.sqlite"]


def test_a_page_with_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    fill_sweep(Path("a"), lrs=(0.001, 0.02))
    words = ("--x", "lr", "--y", "f1", "--y", "mcc", "--colour", "hidden_dim", "--facet", "sae")
    assert printed(capsys, "a", *words) == ["a/report.html"]
    packed = Page(Path("a/report.html").read_text(encoding="utf-8")).packed["sweep-0"]
    assert packed["chosen"] == {
        "x": "lr",
        "y": ["classification/f1_score", "mcc"],
        "colour": "hidden_dim",
        "facet": "sae",
    }
    assert packed["varied"] == ["sae", "hidden_dim", "lr"]
    assert len(packed["best"]["rows"]) == 12


def test_what_cannot_be_looked_at_is_told_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill_sweep(Path("a"))
    for words, told in (
        (("--x", "depth"), "--x must be a field or a figure of the runs"),
        (("--y", "nothing"), "--y must be a field or a figure of the runs"),
        (("--best", "mcc where l0 around 5"), "'l0 around 5' is no condition"),
        (("--suite", "b"), "--suite must be one of swept, got 'b'"),
        (("--text", "--figures", "png"), "--text writes no page"),
    ):
        assert told in refusal(capsys, "a", *words)
    assert files("a") == ["suite.sqlite"]
