"""Giving one directory what stands in another."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def take_over(old: Path, new: Path, names: Collection[str]) -> None:
    """Give a directory what stands in another, besides ``names`` and what it has already."""
    with suppress(FileNotFoundError), os.scandir(old) as entries:
        for entry in entries:
            copy = new / entry.name
            if entry.name in names:
                continue
            if entry.is_dir(follow_symlinks=False):
                if os.path.ismount(entry.path):
                    raise _a_mount_point(entry.path)
                with suppress(FileExistsError):
                    copy.mkdir()
                take_over(Path(entry.path), copy, ())
                imitate(Path(entry.path), copy)
                fsync(copy)
            elif not os.path.lexists(copy):
                _link(entry, copy)


def imitate(old: Path, new: Path) -> None:
    """Give a directory the owner, the permissions and the times of another."""
    with suppress(FileNotFoundError):
        status = os.stat(old)
        with suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
        shutil.copystat(old, new)


def _link(entry: os.DirEntry[str], copy: Path) -> None:
    """A second name for a file, or else a copy, unless it has vanished or got there already."""
    try:
        os.link(entry.path, copy, follow_symlinks=False)
    except (FileNotFoundError, FileExistsError):
        return
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _a_mount_point(entry.path) from error
        if not (entry.is_file() or entry.is_symlink()):
            raise
        shutil.copy2(entry.path, copy, follow_symlinks=False)
        if entry.is_file(follow_symlinks=False):
            fsync(copy)


def _a_mount_point(path: str) -> OSError:
    """Removing it with the old directory would remove what is mounted."""
    return OSError(errno.EBUSY, "a mount point inside the directory is in the way", path)


def fsync(path: Path) -> None:
    """Wait until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have none of directories
            raise
    finally:
        os.close(descriptor)
