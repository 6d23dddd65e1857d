"""A directory that is replaced as a whole: what stays, what goes, and what is refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from directories import OWN, add_foreign_files, alone, contents, failing, write

from synthkern import staged_directory as module
from synthkern.exchange_names import exchange_names
from synthkern.staged_directory import staged_directory


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A directory of both own files and those of others."""
    write(tmp_path / "model", a="1", b="1")
    add_foreign_files(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(params=["exchange", "rename"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system that can exchange two names, and one that cannot."""
    how: str = request.param
    if how == "rename":
        monkeypatch.setattr(module, "exchange_names", lambda *_: False)
    return how


# ---- what is written, and what stays -----------------------------------------------------------


def test_a_new_directory_and_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y" / "model", a="1")
    assert contents(tmp_path / "x") == {"y": None, "y/model": None, "y/model/a.json": b"1"}


def test_own_files_are_replaced_and_others_stay(target: Path, either: str) -> None:
    before = contents(target)
    assert before is not None
    inode = (target / "notes.txt").stat().st_ino
    write(target, a="2")
    expected = {name: what for name, what in before.items() if name not in OWN}
    assert contents(target) == {**expected, "a.json": b"2"}
    assert (target / "notes.txt").stat().st_ino == inode
    assert (target / "notes.txt").stat().st_nlink == 1
    assert alone(target)


def test_others_files_keep_their_times_and_modes(target: Path) -> None:
    os.utime(target / "plots", (1e9, 1e9))
    os.utime(target / "plots" / "old" / "a.png", (1e9, 1e9))
    (target / "plots").chmod(0o750)
    target.chmod(0o2770)
    os.mkfifo(target / "pipe")
    write(target, a="2")
    assert (target / "plots").stat().st_mtime == 1e9
    assert (target / "plots" / "old" / "a.png").stat().st_mtime == 1e9
    assert stat.S_IMODE((target / "plots").stat().st_mode) == 0o750
    assert stat.S_IMODE(target.stat().st_mode) == 0o2770
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_files_are_copied_where_they_cannot_be_linked(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = contents(target)
    monkeypatch.setattr(os, "link", failing(number))
    os.utime(target / "notes.txt", (1e9, 1e9))
    write(target, a="1", b="1")
    assert contents(target) == before
    assert (target / "notes.txt").stat().st_mtime == 1e9


def test_a_pipe_that_cannot_be_linked_is_not_read(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(target / "pipe")
    before = sorted(os.listdir(target))
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    with pytest.raises(PermissionError):
        write(target, a="2")
    assert sorted(os.listdir(target)) == before
    assert (target / "a.json").read_text() == "1"
    assert alone(target)


def test_what_others_add_meanwhile_stays(
    target: Path, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = module.exchange_names

    def add_then_exchange(a: Path, b: Path) -> bool:
        (b / "late.txt").write_text("mine")
        (b / "plots" / "late.png").write_text("mine")
        return exchange(a, b)

    monkeypatch.setattr(module, "exchange_names", add_then_exchange)
    write(target, a="2")
    assert (target / "late.txt").read_text() == "mine"
    assert (target / "plots" / "late.png").read_text() == "mine"


def test_a_block_that_fails_leaves_what_was_there(target: Path) -> None:
    before = contents(target)
    with pytest.raises(KeyboardInterrupt), staged_directory(target, OWN) as folder:  # noqa: PT012
        (folder / "a.json").write_text("2")
        raise KeyboardInterrupt
    assert contents(target) == before
    assert alone(target)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EBUSY, errno.EXDEV])
def test_a_system_that_refuses_leaves_what_was_there(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = contents(target)
    monkeypatch.setattr(module, "exchange_names", failing(number))
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        write(target, a="2")
    assert caught.value.errno == number
    assert contents(target) == before
    assert alone(target)


def test_a_second_rename_that_fails_is_undone(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(target)
    rename = Path.rename

    def fail_second(self: Path, to: Path) -> Path:
        if self.suffix == ".staged":
            raise OSError(errno.EIO, "broken")
        return rename(self, to)

    monkeypatch.setattr(module, "exchange_names", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(OSError, match="broken"):
        write(target, a="2")
    assert contents(target) == before
    assert alone(target)


def test_a_target_that_vanishes_meanwhile(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_then_exchange(a: Path, b: Path) -> bool:
        b.rename(tmp_path / "elsewhere")
        return exchange_names(a, b)

    monkeypatch.setattr(module, "exchange_names", remove_then_exchange)
    write(target, a="2")
    assert (target / "a.json").read_text() == "2"
    assert (tmp_path / "elsewhere" / "a.json").read_text() == "1"


def test_a_target_that_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, target = module.fsync, tmp_path / "model"

    def appear(path: Path) -> None:
        if not target.exists():
            add_foreign_files(target)
        fsync(path)

    monkeypatch.setattr(module, "fsync", appear)
    write(target, a="2")
    assert (target / "a.json").read_text() == "2"
    assert (target / "notes.txt").read_text() == "mine"
    assert alone(target)


# ---- paths that are no plain directories --------------------------------------------------------


def test_a_symbolic_link_stays_and_leads_to_the_new_directory(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to("../model")
    write(link, a="2")
    assert link.is_symlink()
    assert (target / "a.json").read_text() == "2"
    assert list(link.parent.iterdir()) == [link]
    link.unlink()
    link.symlink_to("nothing")
    write(link, a="3")
    assert link.is_symlink()
    assert (link.parent / "nothing" / "a.json").read_text() == "3"


@pytest.mark.parametrize("kind", ["file", "link to a file", "loop"])
def test_something_else_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    path, file = tmp_path / "model", tmp_path / "file"
    file.write_text("mine")
    if kind == "file":
        file.rename(path)
    else:
        path.symlink_to("model" if kind == "loop" else "file")
    before = sorted(os.listdir(tmp_path))
    # A link to a file is resolved first.
    with pytest.raises(OSError, match=f"(Not a directory|symbolic links): '{path}|{file}'"):
        write(path, a="2")
    assert sorted(os.listdir(tmp_path)) == before
    assert kind == "loop" or path.read_text() == "mine"


@pytest.mark.parametrize("where", [".", "plots/old"])
def test_the_working_directory_is_followed(
    target: Path, either: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(target / where)
    write("." if where == "." else "../..", a="2")
    assert Path.cwd() == target / where
    assert os.path.samefile(".", target / where)
    assert (target / "a.json").read_text() == "2"


def test_a_mount_point_is_told(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "exchange_names", failing(errno.EBUSY))
    with pytest.raises(OSError, match=f"mount point cannot be replaced.*: '{target}'"):
        write(target, a="2")


@pytest.mark.parametrize("sign", ["mount", "link"])
def test_a_mount_point_inside_is_told(
    target: Path, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    """Removing the old directory would empty what is mounted."""
    before, inner = contents(target), target / "plots"
    if sign == "mount":
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == inner)
    else:
        monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    with pytest.raises(OSError, match=f"mount point inside .*: '{target}") as caught:
        write(target, a="2")
    assert caught.value.errno == errno.EBUSY
    assert contents(target) == before
    assert alone(target)
