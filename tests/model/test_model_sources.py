"""Where a model can come from, and what is refused before the Hub is asked."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_client import bits

import synthkern as synthetic
from synthkern import SyntheticModel, upload_synthetic_model_to_huggingface as upload

load: Callable[[Any], SyntheticModel] = SyntheticModel.load_from_source


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request can be made: an ImportError instead."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def recipe() -> synthetic.SyntheticModelConfig:
    return synthetic.SyntheticModelConfig(20, 4, hierarchy=synthetic.HierarchyConfig(3, 2), seed=1)


@pytest.mark.usefixtures("no_client")
def test_local_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SyntheticModel(recipe())
    model.save(tmp_path / "home" / "a:b")
    (tmp_path / "beside").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    directory = tmp_path / "home" / "a:b"
    sources = [recipe(), directory, str(directory), Path("a:b"), "a:b", "./a:b", "~/a:b"]
    for source in [*sources, Path("~/a:b"), "../home/a:b"]:
        loaded = load(source)
        assert bits(loaded) == bits(model), source
        assert loaded.device.type == "cpu"
    loaded = SyntheticModel.load_from_source(recipe(), "meta")
    assert loaded.device.type == "meta"


@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize("local", ["/", "./", "../", "~/"])
def test_a_directory_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (f"{local}no/model", Path(f"{local}no/model")):
        expected = f"source must be a directory, got {source!r}"
        with pytest.raises(FileNotFoundError, match=re.escape(expected)):
            load(source)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="source must be a directory, got 'file'"):
        load("file")


BAD_REPOS: list[Any] = ["", "a b", "a/b/c", "/a", "a/", "..", "a..b", "https://hub/a", "a\n", None]
BAD_FOLDERS: list[Any] = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\nb", 3]


@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize("repo_id", BAD_REPOS)
def test_what_is_no_repository(repo_id: Any) -> None:
    kind = ValueError if isinstance(repo_id, str) else TypeError
    got = re.escape(f"got {repo_id!r}")
    with pytest.raises(kind, match=f"^repo_id must .*{got}$"):
        SyntheticModel.from_pretrained(repo_id)
    with pytest.raises(kind, match=f"^hf_repo_id must .*{got}$"):
        upload("no model", repo_id)


@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize("folder", BAD_FOLDERS)
def test_what_is_no_folder_of_a_repository(folder: Any) -> None:
    kind = ValueError if isinstance(folder, str) else TypeError
    got = re.escape(f"got {folder!r}")
    with pytest.raises(kind, match=f"^model_path must .*{got}$"):
        SyntheticModel.from_pretrained("a/b", folder)
    with pytest.raises(kind, match=f"^hf_path must .*{got}$"):
        upload("no model", "a/b", folder)
    if isinstance(folder, str):
        with pytest.raises(kind, match=f"^model_path must .*{got}$"):
            load(f"a/b:{folder}")


@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize("revision", ["", "a b", "a..b", "a\n", 3])
def test_what_is_no_revision(revision: Any) -> None:
    kind = ValueError if isinstance(revision, str) else TypeError
    got = re.escape(f"got {revision!r}")
    with pytest.raises(kind, match=f"^revision must .*{got}$"):
        SyntheticModel.from_pretrained("a/b", revision=revision)
    with pytest.raises(kind, match=f"^hf_revision must .*{got}$"):
        upload("no model", "a/b", hf_revision=revision)


SOURCE = "source must be a config, a directory or a repo_id"
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: load(None), TypeError, f"{SOURCE}, got None"),
    (lambda: load(b"a/b"), TypeError, f"{SOURCE}, got b'a/b'"),
    (lambda: load({"num_features": 4}), TypeError, f"{SOURCE}, got {{'num_features': 4}}"),
    (lambda: load(""), ValueError, "source must be a path, not empty and without NUL, got ''"),
    (
        lambda: load("a/b:c:d"),
        ValueError,
        "source must be 'repo_id' or 'repo_id:model_path', got 'a/b:c:d'",
    ),
    (
        lambda: SyntheticModel.from_pretrained("a/b", force_download=1),  # type: ignore[arg-type]
        TypeError,
        "force_download must be True or False, got 1",
    ),
    (
        lambda: upload(3, "a/b"),  # type: ignore[arg-type]
        TypeError,
        "model must be a SyntheticModel or a directory, got 3",
    ),
    (
        lambda: upload("no model", "a/b", private="no"),  # type: ignore[arg-type]
        TypeError,
        "private must be True or False, got 'no'",
    ),
    (
        lambda: upload("no model", "a/b", add_default_readme=0),  # type: ignore[arg-type]
        TypeError,
        "add_default_readme must be True or False, got 0",
    ),
]


@pytest.mark.usefixtures("no_client")
@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_other_refusals(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


def test_without_the_hubs_client(tmp_path: Path) -> None:
    program = """
import sys, synthkern
print("huggingface_hub" in sys.modules)
sys.modules["huggingface_hub"] = None
model = synthkern.SyntheticModel(synthkern.SyntheticModelConfig(4, 2))
for call in (
    lambda: synthkern.SyntheticModel.from_pretrained("me/world"),
    lambda: synthkern.SyntheticModel.load_from_source("me/world"),
    lambda: synthkern.upload_synthetic_model_to_huggingface(model, "me/world"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    needs = "the Hugging Face Hub needs the package huggingface_hub: pip install 'synthkern[hub]'"
    assert done.stdout.splitlines() == ["False", needs, needs, needs]
    assert (done.returncode, done.stderr) == (0, "")
