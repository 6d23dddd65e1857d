"""Commands whose folders have the names that people give folders."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_suites import suite_data

from synthkern.cli import main

#: What people give folders, what commands might take for something else, and a long name.
NAMES = ['./-größe 雪🙂  100%d {x} it\'s "q"\nnew', "a/../b/", "x" * 200]
#: What each command needs besides its folder.
SAMPLE = shlex.split("sample synth-sae-bench-1k --samples 40 --seed 1 --batch-size 20 --out")
TRAIN = shlex.split(
    "train synth-sae-bench-1k --architecture topk --d-sae 32 --k 4 --samples 128 --batch-size 64 "
    "--eval-samples 64 --out"
)


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


def small_bench(folder: Path) -> Path:
    """A directory of ``synthkern bench``, and the suite's file in it."""
    folder.mkdir()
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite_data(seeds=[0])))
    run("bench", folder / "suite.yaml", "--out", folder / "bench")
    return folder / "bench"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read: an outcome and a directory of runs."""
    folder = tmp_path_factory.mktemp("made")
    run(*TRAIN, folder / "sae")
    small_bench(folder / "of-bench")
    return folder


def test_links_to_folders_are_followed_there_or_not(tmp_path: Path, made: Path) -> None:
    (tmp_path / "real").mkdir()
    for name, words in {
        "real": SAMPLE,
        "samples": SAMPLE,
        "sae": TRAIN,
        "bench": ("bench", made / "of-bench" / "suite.yaml", "--out"),
        "pages": ("report", made / "of-bench" / "bench", "--out"),
    }.items():
        link = tmp_path / f"link-{name}"
        link.symlink_to(name, target_is_directory=True)
        run(*words, f"{link}/" if name == "pages" else link)
        assert link.is_symlink()
    assert (tmp_path / "real" / "manifest.json").is_file()
    assert (tmp_path / "samples" / "manifest.json").is_file()
    assert (tmp_path / "sae" / "cfg.json").is_file()
    assert (tmp_path / "bench" / "suite.sqlite").is_file()
    assert (tmp_path / "pages" / "report.html").is_file()


#: What stands in the way, by a command and its folder: a file ("+") or a folder ("/").
IN_THE_WAY = [
    ("sample", "model", "+"),
    ("sample", "shard-000001.safetensors", "/"),
    ("sample", "manifest.json", "/"),
    ("train", "checkpoint", "+"),
    ("train", "cfg.json", "/"),
    ("train", "synthetic_model", "+"),
    ("eval", "eval_stats.json", "/"),
    ("plot", "similarity.html", "/"),
    ("bench", "runs", "+"),
    ("bench", "worlds", "+"),
    ("bench", "suite.sqlite", "/"),
    ("report", "report.html", "/"),
    ("report", "runs.csv", "/"),
]


def commands(made: Path, folder: Path) -> dict[str, list[str | Path]]:
    """A command line each for a folder, which is one to read for some of them."""
    return {
        "sample": [*SAMPLE, folder],
        "train": [*TRAIN, folder, "--save-synthetic-model"],
        "eval": ["eval", folder, "--samples", "64"],
        "plot": ["plot", folder],
        "bench": ["bench", made / "of-bench" / "suite.yaml", "--out", folder],
        "report": ["report", folder, "--export", "csv"],
    }


def no_work(patch: pytest.MonkeyPatch) -> None:
    """Let the building and the loading of worlds, runs and pages fail the test."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("work was done before the check")

    for place in (
        "synthkern.model.synthetic_model.SyntheticModel.__init__",
        "synthkern.suite.scheduler.Scheduler.run",
        "synthkern.cli.report.write_page",
    ):
        patch.setattr(place, fail)


@pytest.mark.parametrize(("command", "name", "kind"), IN_THE_WAY)
def test_what_stands_in_the_way_is_told_before_any_work(
    command: str,
    name: str,
    kind: str,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "folder"
    source = {"eval": "sae", "plot": "sae", "report": "of-bench/bench"}.get(command)
    if source is None:
        folder.mkdir()
    else:
        shutil.copytree(made / source, folder)
    place = folder / name
    if place.is_file():
        place.unlink()
    if kind == "+":
        place.write_text("mine")
    else:
        place.mkdir()
    no_work(monkeypatch)
    assert main([str(word) for word in commands(made, folder)[command]]) == 2
    told = capsys.readouterr().err
    assert str(folder) in told
    assert name in told
    assert place.read_text() == "mine" if kind == "+" else place.is_dir()


READ_ONLY = """
import contextlib, io, sys
from pathlib import Path
import pytest
from test_client_odd_folders import commands, main, no_work

made, place = map(Path, sys.argv[1:])
with pytest.MonkeyPatch.context() as patch:
    no_work(patch)
    for folder in ("sae", "of-bench/bench", "new"):
        for name, words in commands(made, place / folder).items():
            is_read = {"eval": "sae", "plot": "sae", "report": "of-bench/bench"}.get(name, folder)
            if is_read != folder:
                continue
            with contextlib.redirect_stderr(io.StringIO()) as told:
                status = main([str(word) for word in words])
            assert status == 2, (name, folder)
            assert "Read-only file system" in told.getvalue(), (name, folder, told.getvalue())
            assert str(place) in told.getvalue()
assert main(["report", str(place / "of-bench" / "bench"), "--out", f"{made}/pages/"]) == 0
"""


def test_a_read_only_folder_is_told_before_any_work(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "ro")
    script = f"mount --bind {tmp_path}/ro {tmp_path}/ro && mount -o remount,ro,bind {tmp_path}/ro"
    command = ["unshare", "-rm", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, script], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs mounts of its own")
    (tmp_path / "try.py").write_text(READ_ONLY)
    words = f"{script} && exec {sys.executable} {tmp_path}/try.py {made} {tmp_path}/ro"
    done = subprocess.run(
        [*command, words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert (made / "pages" / "report.html").is_file()


@pytest.mark.parametrize(
    "surroundings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_a_terminal_that_knows_ascii_alone_fails_no_command(
    surroundings: dict[str, str], made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "größe-±"
    shutil.copytree(made / "of-bench" / "bench", out)
    for words in (["bench", made / "of-bench" / "suite.yaml", "--out", out], ["report", out]):
        done = subprocess.run(
            [sys.executable, "-m", "synthkern", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **surroundings},
        )
        assert done.returncode == 0, done.stderr
        assert "\\" in done.stdout
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("place", ["a file", "a file/below", "n\0ul", "y" * 300, ""])
def test_what_can_be_no_folder_is_refused(
    place: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").write_text("mine")
    for words in commands(made, Path()).values():
        path = f"{tmp_path}/{place}" if place else ""
        assert main([str(path if word == Path() else word) for word in words]) == 2
        assert capsys.readouterr().err.startswith("synthkern: ")
    assert (tmp_path / "a file").read_text() == "mine"
