"""Files of a folder that are replaced together: what stays, what goes, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest
from directories import OWN, add_foreign_files, alone, contents, failing, forked, write

from synthkern.storage import saved_folder as module
from synthkern.storage.saved_folder import (
    SavedFiles,
    check_writable_folder,
    has_file,
    read_folder,
    saved_folder,
)

STAGED, JOURNAL, LOCK = ".synthkern.saving", ".journal.json", ".synthkern.lock"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder of both own files and those of others."""
    write(tmp_path / "model", a="1", b="1")
    add_foreign_files(tmp_path / "model")
    return tmp_path / "model"


def read(path: Path) -> dict[str, str]:
    """The texts of a folder's own files."""

    def texts(files: SavedFiles) -> dict[str, str]:
        return {name: files.path(name).read_text() for name in OWN if files.has(name)}

    return read_folder(path, OWN, texts)


def leave(target: Path, *, journal: bool, moved: bool = False) -> None:
    """What a save of a.json that removes b.json leaves where it is killed."""
    staged = target / STAGED
    staged.mkdir()
    ((target if moved else staged) / "a.json").write_text("2")
    if journal:
        (staged / JOURNAL).write_text(json.dumps({"written": ["a.json"], "removed": ["b.json"]}))
    (target / LOCK).touch()


# ---- what is written, and what stays -----------------------------------------------------------


def test_a_new_folder_and_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y" / "model", a="1")
    assert contents(tmp_path / "x") == {"y": None, "y/model": None, "y/model/a.json": b"1"}


def test_own_files_are_replaced_and_others_stay(target: Path) -> None:
    before = contents(target)
    assert before is not None
    status = (target / "notes.txt").stat()
    os.mkfifo(target / "pipe")
    write(target, a="2")
    (target / "pipe").unlink()
    expected = {name: what for name, what in before.items() if name not in OWN}
    assert contents(target) == {**expected, "a.json": b"2"}
    assert (target / "notes.txt").stat() == status
    assert alone(target)


def test_a_block_that_fails_leaves_what_was_there(target: Path) -> None:
    before = contents(target)
    with pytest.raises(KeyboardInterrupt), saved_folder(target, OWN) as folder:  # noqa: PT012
        (folder / "a.json").write_text("2")
        raise KeyboardInterrupt
    assert contents(target) == before
    new = target.with_name("x") / "new"
    with pytest.raises(KeyboardInterrupt), saved_folder(new, OWN):
        raise KeyboardInterrupt
    assert alone(target)


def test_an_error_names_the_file_that_could_not_be_written(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match=r"No space") as caught, saved_folder(target, OWN) as folder:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a.json"))
    assert caught.value.filename == str(target / "a.json")
    before = contents(target)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        write(target, a="2")
    assert contents(target) == before


def test_a_symbolic_link_stays_and_leads_to_the_folder(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to("../model")
    write(link, a="2")
    assert link.is_symlink()
    assert (target / "a.json").read_text() == "2"
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


def test_a_folder_in_the_place_of_a_file_is_refused_before_anything(target: Path) -> None:
    (target / "b.json").unlink()
    (target / "b.json").mkdir()
    for action in (lambda: write(target, a="2"), lambda: check_writable_folder(target, OWN)):
        with pytest.raises(IsADirectoryError, match=re.escape(str(target / "b.json"))):
            action()
    assert (target / "a.json").read_text() == "1"
    assert not (target / STAGED).exists()


def test_all_is_on_the_disk_before_it_counts(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_replace(a: Path, b: Path) -> None:
        done.append(f"replace {b.name}")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", note_replace)
    write(target, a="2")
    before = done[: done.index("replace a.json")]
    assert before[0] == str(target / STAGED / "a.json")
    assert before[-2:] == [str(target / STAGED), str(target)]
    assert done[-1] == str(target)


# ---- where the folder itself cannot be moved ----------------------------------------------------


def test_a_folder_that_cannot_be_renamed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mount point, and a folder whose parent is read-only: nothing is done beside it."""
    real = os.rename, os.replace, os.mkdir

    def refuse(path: object) -> None:
        if Path(os.fspath(path)).parent == target.parent:  # type: ignore[call-overload]
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    def rename(a: object, b: object, **more: object) -> None:
        refuse(a)
        refuse(b)
        real[1](a, b, **more)  # type: ignore[arg-type]

    def mkdir(path: object, *more: object, **named: object) -> None:
        if Path(os.fspath(path)) != target:  # type: ignore[call-overload]
            refuse(path)
        real[2](path, *more, **named)  # type: ignore[arg-type]

    for name, value in (("rename", rename), ("replace", rename), ("mkdir", mkdir)):
        monkeypatch.setattr(os, name, value)
    check_writable_folder(target)
    write(target, a="2")
    assert read(target) == {"a.json": "2"}


MOUNT = """
mount -t tmpfs none {0} && mkdir {0}/out && mount -t tmpfs none {0}/out &&
mount -o remount,ro {0} && exec {1} -c '
import subprocess, sys, synthkern as s
from pathlib import Path
from synthkern.storage.saved_folder import check_writable_folder
m = s.SyntheticModel(s.SyntheticModelConfig(6, 4, seed=1))
out = Path(sys.argv[1]) / "out"
for _ in range(2):
    m.save(out)
assert s.SyntheticModel.load_from_disk(out).sample(3, seed=1).equal(m.sample(3, seed=1))
try:
    m.save(out.parent)
except OSError as error:
    assert error.filename == str(out.parent), error
else:
    raise AssertionError
(out / "inner").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "none", out / "inner"], check=True)
try:
    check_writable_folder(out, ["inner/a.json"])
except OSError as error:
    assert error.filename == str(out / "inner"), error
else:
    raise AssertionError
' {0}
"""


def test_a_mount_point_whose_parent_is_read_only(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.call(
        ["unshare", "-rm", "true"], stderr=subprocess.DEVNULL
    ):
        pytest.skip("needs mounts of its own")
    script = MOUNT.format(tmp_path, sys.executable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    if "mount:" in done.stderr and "denied" in done.stderr:
        pytest.skip("needs mounts of its own")
    assert done.returncode == 0, done.stderr


def test_the_check_leaves_no_trace(target: Path, tmp_path: Path) -> None:
    before = contents(target)
    check_writable_folder(target, OWN)
    assert contents(target) == before
    check_writable_folder(tmp_path / "x" / "new", OWN)
    assert contents(tmp_path / "x") == {"new": None}


def test_what_cannot_be_written_is_named_by_the_check(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: object, flags: int, *more: object, **named: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=r"Read-only file system") as caught:
        check_writable_folder(target)
    assert caught.value.filename == str(target)


# ---- what killed saves leave --------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True])
def test_a_journal_is_read_through_where_nothing_may_be_written(
    target: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    leave(target, journal=True, moved=moved)
    before = contents(target)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read(target) == {"a.json": "2"}
    assert contents(target) == before


def test_a_journal_is_finished_by_who_writes(target: Path) -> None:
    leave(target, journal=True)
    with saved_folder(target, ["c.json"]) as folder:
        (folder / "c.json").write_text("3")
    assert (target / "a.json").read_text() == "2"
    assert not (target / "b.json").exists()
    assert (target / "c.json").read_text() == "3"


@pytest.mark.parametrize("renames", range(5))
def test_who_is_killed_among_inner_folders_leaves_old_or_new_files(
    tmp_path: Path, renames: int
) -> None:
    target, inner = tmp_path / "out", ("inner/a.json", "inner/b.json")
    names = ("a.json", *inner)

    def save(text: str, written: Collection[str]) -> None:
        with saved_folder(target, names) as folder:
            (folder / "inner").mkdir(exist_ok=True)
            for name in written:
                (folder / name).write_text(text)

    def die() -> None:
        real, left = os.replace, [renames]

        def replace(source: object, final: object) -> None:
            if not left[0]:
                os._exit(0)
            left[0] -= 1
            real(source, final)  # type: ignore[arg-type]

        os.replace = replace  # type: ignore[assignment]
        save("2", ["a.json", "inner/a.json"])

    def texts(files: SavedFiles) -> dict[str, str]:
        return {name: files.path(name).read_text() for name in OWN if files.has(name)}

    save("1", names)
    assert os.waitpid(forked(die), 0)[1] == 0
    # The first rename is the journal's. The inner folder is read first, and finishes the save.
    new = renames > 0
    assert has_file(target / "inner", "b.json") is not new
    expected = {"a.json": "2"} if new else {"a.json": "1", "b.json": "1"}
    assert read_folder(target / "inner", OWN, texts) == expected
    assert read(target) == {"a.json": "2" if new else "1"}
    save("3", [])
    assert contents(target) == {}


def test_a_link_or_a_file_in_the_place_of_an_inner_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.json").write_text("mine")
    (tmp_path / "out").mkdir()
    place = tmp_path / "out" / "inner"
    for kind in ("link", "file"):
        if kind == "link":
            place.symlink_to("../elsewhere")
        else:
            place.unlink()
            place.touch()
        names = ("a.json", "inner/b.json")
        with pytest.raises(NotADirectoryError, match=re.escape(str(place))):
            check_writable_folder(tmp_path / "out", names)
        with pytest.raises(NotADirectoryError), saved_folder(tmp_path / "out", names):
            pass
        # Nor by a journal of somebody's.
        leave(tmp_path / "out", journal=True)
        journal = tmp_path / "out" / STAGED / JOURNAL
        journal.write_text(json.dumps({"written": [], "removed": ["inner/b.json"]}))
        with suppress(NotADirectoryError):
            read(tmp_path / "out")
        shutil.rmtree(tmp_path / "out" / STAGED)
    assert (tmp_path / "elsewhere" / "b.json").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "{}",
        '{"written": ["../x"], "removed": []}',
        '{"written": ["a/b/c"], "removed": []}',
        '{"written": [], "removed": 1}',
    ],
)
def test_a_journal_that_is_none_is_named(target: Path, text: str) -> None:
    leave(target, journal=True)
    (target / STAGED / JOURNAL).write_text(text)
    for action in (lambda: read(target), lambda: write(target, a="2")):
        with pytest.raises(ValueError, match=re.escape(JOURNAL)):
            action()
    assert (target / "a.json").read_text() == "1"


def test_a_pipe_is_no_file(target: Path) -> None:
    (target / "a.json").unlink()
    os.mkfifo(target / "a.json")
    with pytest.raises(ValueError, match=r"a\.json must be a regular file"):
        read(target)


# ---- several at once ----------------------------------------------------------------------------


def test_a_save_waits_for_another(target: Path) -> None:
    ready, go = os.pipe()

    def second() -> None:
        os.read(ready, 1)
        write(target, a="second", b="second")

    with saved_folder(target, OWN) as folder:
        child = forked(second)
        os.write(go, b"x")
        for name in OWN:
            (folder / name).write_text("first")
        assert read(target) == {"a.json": "1", "b.json": "1"}
    assert os.waitpid(child, 0)[1] == 0
    assert read(target) == {"a.json": "second", "b.json": "second"}
    for descriptor in (ready, go):
        os.close(descriptor)


def test_a_lock_ends_with_the_save_also_where_a_child_process_has_it(target: Path) -> None:
    with saved_folder(target, ()):
        descriptors = [os.dup(int(name)) for name in opened(target / LOCK)]
    try:
        write(target, a="2")  # does not wait
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
    assert not (target / LOCK).exists()


def test_files_that_are_replaced_while_they_are_read_are_read_again(target: Path) -> None:
    calls: list[str] = []

    def interfere(files: SavedFiles) -> str:
        text = files.path("a.json").read_text()
        calls.append(text)
        if len(calls) == 1:
            write(target, a="2", b="2")
        return text + files.path("b.json").read_text()

    assert read_folder(target, OWN, interfere) == "22"
    assert calls == ["1", "2"]


def test_files_that_are_replaced_again_and_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ATTEMPTS", 3)
    with pytest.raises(OSError, match="keep replacing") as caught:
        read_folder(target, OWN, lambda _: write(target, a="2"))
    assert caught.value.errno == errno.EAGAIN
