"""Sizes as people write them, and the folder of what can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthkern.storage.cache_folder import cache_folder
from synthkern.storage.sizes import as_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (12, 12),
        ("500", 500),
        ("500 B", 500),
        ("1k", 1024),
        ("1.5KiB", 1536),
        ("2kB", 2000),
        ("500MB", 500_000_000),
        ("10GiB", 10 * 2**30),
        (" 10 g ", 10 * 2**30),
        (".5T", 2**39),
    ],
)
def test_sizes_that_are_read(text: str | int, size: int) -> None:
    assert as_size("max_size", text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1e9", "1 QB", "10 GiB/s", "nan", "9" * 400])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^max_size must be a size such as 10GiB, 500MB or 0, got"
    ):
        as_size("max_size", text)


@pytest.mark.parametrize("value", [None, 1.5, True, b"1"])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(TypeError, match="max_size must be"):
        as_size("max_size", value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (53_576_750, "51.1 MiB"),
        (10 * 2**30, "10 GiB"),
        (2**30 - 1, "1 GiB"),
        (1023 * 2**20, "0.999 GiB"),
        (5 * 2**50, "5,120 TiB"),
    ],
)
def test_sizes_that_are_printed(size: int, text: str) -> None:
    assert size_text(size) == text


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SYNTHKERN_CACHE", "here/~")
    assert cache_folder() == Path("here/~")
    monkeypatch.setenv("SYNTHKERN_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("SYNTHKERN_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "synthkern"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "synthkern"
    # As the standard says.
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "synthkern"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SYNTHKERN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(FileNotFoundError, match="SYNTHKERN_CACHE must name a folder"):
        cache_folder()
