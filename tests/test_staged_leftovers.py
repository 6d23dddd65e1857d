"""What killed writers of a directory left, and how those alive keep out of each other's way."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from directories import add_foreign_files, alone, contents, failing, write

from synthkern import directory_lock
from synthkern import staged_directory as module
from synthkern.exchange_names import exchange_names
from synthkern.staged_directory import clear_leftovers, staged_directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory of both own files and those of others."""
    write(tmp_path / "model", a="1", b="1")
    add_foreign_files(tmp_path / "model")
    return tmp_path / "model"


def test_two_names_are_exchanged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / name).mkdir(parents=True)
    if exchange_names(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        assert (tmp_path / "b" / "a").is_dir()
    else:
        assert (tmp_path / "a" / "a").is_dir()


def test_a_name_that_is_not_there_cannot_be_exchanged(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "b"))):
        exchange_names(tmp_path / "a", tmp_path / "b")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def test_leftovers_go_unless_their_process_lives(target: Path) -> None:
    dead, alive = (target.with_name(f".model.0123456{k}.staged") for k in "78")
    for path in (dead, alive):
        add_foreign_files(path)
        (path / "plots").chmod(0o500)
    with locked(alive):
        write(target, a="2")
        assert sorted(target.parent.iterdir()) == [alive, target]
    clear_leftovers(target)
    assert alone(target)


def test_what_only_looks_like_a_leftover_stays(target: Path) -> None:
    names = [".model.tmp", ".model.01234567", ".model.0123456.staged", ".model.a.01234567.staged"]
    for name in names:
        target.with_name(name).mkdir()
    target.with_name(".model.76543210.staged").write_text("a file")
    target.with_name(".model.86543210.staged").symlink_to("model")
    before = contents(target)
    write(target, a="1", b="1")
    names += [".model.76543210.staged", ".model.86543210.staged", "model"]
    assert sorted(os.listdir(target.parent)) == sorted(names)
    assert contents(target) == before


def test_an_old_directory_that_was_moved_aside_is_put_back(target: Path) -> None:
    before = contents(target)
    aside = target.with_name(".model.01234567.aside")
    target.rename(aside)
    clear_leftovers(target)
    assert contents(target) == before
    assert alone(target)
    aside.mkdir()
    clear_leftovers(target)
    assert contents(target) == before
    assert alone(target)


def test_one_who_clears_away_may_be_faster_than_the_owners_lock(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = fcntl.flock, []

    def interfere(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        made = [path for path in target.parent.iterdir() if path.suffix == ".staged"]
        if len(calls) == 1:  # has the lock
            raise BlockingIOError
        if len(calls) == 2:  # has removed it and let go
            for path in made:
                path.rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", interfere)
    write(target, a="2")
    assert len(calls) >= 3
    assert (target / "a.json").read_text() == "2"


def test_a_lock_that_another_program_keeps_is_not_waited_for_without_end(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_lock, "_PATIENCE", 0.0)
    with locked(target):
        write(target, a="2")
    assert (target / "a.json").read_text() == "2"
    assert (target / "notes.txt").read_text() == "mine"
    assert alone(target)


def test_a_lock_ends_with_the_save_also_where_a_child_process_has_it(target: Path) -> None:
    with staged_directory(target, ()) as folder:
        descriptors = [os.dup(int(name)) for name in opened(folder)]
    try:
        descriptor = os.open(target, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert len(descriptors) == 1


def opened(path: Path) -> list[str]:
    """The descriptors of this process that are open at a path."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            if os.readlink(link) == str(path):
                found.append(link.name)
    return found


def test_a_file_system_without_locks(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    write(target, a="2")
    assert (target / "a.json").read_text() == "2"
    assert alone(target)
    # Whether a process is alive cannot be known then.
    left = target.with_name(".model.01234567.staged")
    left.mkdir()
    write(target, a="3")
    assert left.is_dir()


def test_all_is_on_the_disk_before_it_is_in_place(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_exchange(a: Path, b: Path) -> bool:
        done.append("exchange")
        return exchange_names(a, b)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(module, "exchange_names", note_exchange)
    write(target, a="2")
    place = done.index("exchange")
    (staged,) = {path for path in done[:place] if path.endswith(".staged")}
    assert done[place - 1] == staged
    assert f"{staged}/plots/old" in done[:place]
    assert done[-1] == str(target.parent)
