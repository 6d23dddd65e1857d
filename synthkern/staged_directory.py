"""Directories that change as a whole: written beside the old one, then put in its place."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synthkern.directory_lock import is_at, lock, take_turn, try_lock, unlock
from synthkern.exchange_names import exchange_names
from synthkern.take_over import fsync, imitate, take_over

#: Beside a directory NAME: ".NAME.0123abcd.staged" is being written, or was replaced and is being
#: removed; ".NAME.0123abcd.aside" was moved away where names cannot be exchanged.
_STAGED, _ASIDE = ".staged", ".aside"

#: What a rename says where another process was faster.
_MEANWHILE = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)

_REFUSALS = {
    errno.EBUSY: "a mount point cannot be replaced, but a directory below it can",
    errno.EXDEV: "this file system cannot rename a directory of its lower layer",
}


@contextmanager
def staged_directory(path: Path, names: Collection[str]) -> Iterator[Path]:
    """A temporary directory beside ``path`` that takes its place when the block ends well.

    Whenever the process dies, ``path`` is the old directory or the new one, whole. What else than
    ``names`` stands in the old one, the new one gets as well: hard links of files, or copies where
    the file system has no links, symbolic links as they are, and folders of the same. Then the two
    exchange their names in one step, and the old one is removed. Programs that have the old
    directory open, or work in it, are left there; this process follows.

    Where the system cannot exchange names, the old directory is moved aside and then the new one
    in. A crash between the two leaves ``path`` missing and the old one whole beside it, as
    ".NAME.xxxxxxxx.aside": the next call puts it back first.

    Args:
        path: a directory, or a symbolic link to one, or nothing yet; missing parents are made.
        names: of the files that belong to the caller: those not written are gone afterwards.

    Raises:
        NotADirectoryError: where ``path`` is something else.
        PermissionError: where the directory or its parent may not be written.
        OSError: where it, or a folder in it, is a mount point; and whatever the system refuses.
    """
    target = Path(os.path.realpath(path))
    _check(target)
    _make_parents(target)
    clear_leftovers(target)
    staged, held = _stage(target)
    try:
        yield staged
        while not _put_in_place(staged, target, names):
            pass
        fsync(target.parent)
    finally:
        # Under that name is the new directory where something failed, and else the old one.
        _remove(staged)
        unlock(held)


def clear_leftovers(path: Path) -> None:
    """Remove what writers of a directory left beside it when they were killed.

    What one is still writing stays: it holds a lock. An old directory that was moved aside is put
    back where ``path`` is missing.
    """
    target = Path(os.path.realpath(path))
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}({_STAGED}|{_ASIDE})")
    with os.scandir(target.parent) as entries:
        found = [Path(entry.path) for entry in entries if form.fullmatch(entry.name)]
    for leftover in found:
        held = try_lock(leftover)
        if held is None:
            continue
        try:
            if leftover.suffix == _ASIDE and not os.path.lexists(target):
                leftover.rename(target)
            else:
                _remove(leftover)
        except OSError as error:
            if error.errno not in _MEANWHILE:
                raise
        finally:
            unlock(held)


def _check(target: Path) -> None:
    """Raise where there is something that is no directory, or one that may not be changed."""
    try:
        opened = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        if not os.access(".", os.W_OK, dir_fd=opened):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    finally:
        os.close(opened)


def _stage(target: Path) -> tuple[Path, int]:
    """A new empty directory beside the target, and a descriptor that holds its lock."""
    while True:
        staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_STAGED}")
        try:
            staged.mkdir()
            opened = os.open(staged, os.O_RDONLY | os.O_DIRECTORY)
        except (FileExistsError, FileNotFoundError):  # the latter: cleared away at once
            if not target.parent.is_dir():
                raise
            continue
        locked = lock(opened)
        # Without locks in this file system nobody can lock it to clear it away either.
        if locked is None or (locked and is_at(staged, opened)):
            return staged, opened
        unlock(opened)  # being cleared away


def _put_in_place(staged: Path, target: Path, names: Collection[str]) -> bool:
    """Make the staged directory the target, and the old target, where there is one, the staged.

    False where the target appeared or vanished meanwhile, so that it is to be done again.
    """
    if not os.path.lexists(target):
        fsync(staged)
        return _swap(staged, target, new=True)
    here = _working_directory()
    turn = take_turn(target)
    try:
        take_over(target, staged, names)
        imitate(target, staged)
        os.utime(staged)
        fsync(staged)
        if not _swap(staged, target, new=False):
            return False
        if here is not None and here.is_relative_to(target):
            with suppress(OSError):
                os.chdir(here)
        # What was added since it was looked at.
        take_over(staged, target, names)
    finally:
        if turn is not None:
            unlock(turn)
    return True


def _swap(staged: Path, target: Path, *, new: bool) -> bool:
    aside = staged.with_suffix(_ASIDE)
    try:
        if new:
            staged.rename(target)
        elif not exchange_names(staged, target):
            try:
                target.rename(aside)
                staged.rename(target)
            except BaseException:
                with suppress(OSError):
                    aside.rename(target)
                raise
            with suppress(FileNotFoundError):  # another process cleared it away already
                aside.rename(staged)
    except OSError as error:
        if error.errno in _MEANWHILE and staged.is_dir():
            return False
        if error.errno in _REFUSALS:
            raise OSError(error.errno, _REFUSALS[error.errno], str(target)) from error
        raise
    return True


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _make_parents(path: Path) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in missing:
        fsync(parent.parent)


def _remove(tree: Path) -> None:
    """Remove a directory as far as that is possible; it is none of anybody's any more."""
    with suppress(OSError):
        os.chmod(tree, 0o700)
    for folder, names, _ in os.walk(tree):
        for name in names:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(tree, ignore_errors=True)
