"""Directories that change as a whole: written beside the old one, then put in its place."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synthkern.exchange_names import exchange_names

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
    if os.path.lexists(target):
        if not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "must be a directory", str(path))
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    _make_parents(target)
    clear_leftovers(target)
    staged, lock = _stage(target)
    try:
        yield staged
        while not _put_in_place(staged, target, names):
            pass
        _fsync(target.parent)
    finally:
        # Under that name is the new directory where something failed, and else the old one.
        _remove(staged)
        os.close(lock)


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
        lock = _try_lock(leftover)
        if lock is None:
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
            os.close(lock)


def _stage(target: Path) -> tuple[Path, int]:
    """A new empty directory beside the target, and a descriptor that holds its lock."""
    while True:
        staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_STAGED}")
        try:
            staged.mkdir()
        except FileExistsError:
            continue
        try:
            lock = os.open(staged, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # cleared away before it was locked
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # being cleared away
            os.close(lock)
            continue
        except OSError:
            # Without locks in this file system nobody can lock it to clear it away either.
            return staged, lock
        if is_at(staged, lock):
            return staged, lock
        os.close(lock)


def _try_lock(directory: Path) -> int | None:
    """A descriptor that holds a directory's lock; None where there is none to be had."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(directory, lock):
            return lock
    os.close(lock)
    return None


def is_at(path: Path, descriptor: int) -> bool:
    """Whether a path leads to a directory that is open as ``descriptor``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _put_in_place(staged: Path, target: Path, names: Collection[str]) -> bool:
    """Make the staged directory the target, and the old target, where there is one, the staged.

    False where the target appeared or vanished meanwhile, so that it is to be done again.
    """
    if not os.path.lexists(target):
        _fsync(staged)
        return _swap(staged, target, new=True)
    here = _working_directory()
    lock = _try_lock(target)  # once it is old, nobody shall clear it away before this is done
    try:
        _take_over(target, staged, names)
        os.utime(staged)
        _fsync(staged)
        if not _swap(staged, target, new=False):
            return False
        if here is not None and here.is_relative_to(target):
            with suppress(OSError):
                os.chdir(here)
        # What was added since it was looked at.
        _take_over(staged, target, names)
    finally:
        if lock is not None:
            os.close(lock)
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


def _take_over(old: Path, new: Path, names: Collection[str]) -> None:
    """Give a directory what stands in another, besides ``names``, and its permissions."""
    with suppress(FileNotFoundError), os.scandir(old) as entries:
        for entry in entries:
            copy = new / entry.name
            if entry.name in names:
                continue
            if entry.is_dir(follow_symlinks=False):
                if os.path.ismount(entry.path):
                    raise _a_mount_point(entry.path)
                copy.mkdir(exist_ok=True)
                _take_over(Path(entry.path), copy, ())
                _fsync(copy)
            elif not os.path.lexists(copy):
                _link(entry, copy)
    with suppress(FileNotFoundError):
        status = os.stat(old)
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
        shutil.copystat(old, new)


def _link(entry: os.DirEntry[str], copy: Path) -> None:
    """A second name for a file, or else a copy; what has vanished is left out."""
    try:
        os.link(entry.path, copy, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _a_mount_point(entry.path) from error
        if not (entry.is_file() or entry.is_symlink()):
            raise
        shutil.copy2(entry.path, copy, follow_symlinks=False)
        if entry.is_file(follow_symlinks=False):
            _fsync(copy)


def _a_mount_point(path: str) -> OSError:
    """Removing it with the old directory would remove what is mounted."""
    return OSError(errno.EBUSY, "a mount point inside the directory is in the way", path)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _make_parents(path: Path) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in missing:
        _fsync(parent.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have none of directories
            raise
    finally:
        os.close(descriptor)


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
