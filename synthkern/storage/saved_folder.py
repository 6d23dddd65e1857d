"""Files of a folder that change together: written beside the old ones, then moved over them.

A save writes its files into a hidden folder within the folder, and then a journal of them there,
which is the moment that counts: before it the old files are what the folder holds, from it on the
new ones are. Then each is renamed to its place. Who is killed leaves the hidden folder behind:
without a journal, the next save removes it; with one, whoever comes next finishes it, or reads
through it where it may not write. The folder itself is never moved, so that it may be a mount
point, or lie in one that cannot be written, and files of others in it are not touched.

Files may lie in folders within the folder, such as "model/weights": who reads or writes such an
inner folder looks for the journal in the one above as well.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from synthkern.storage.files import (
    errors_naming,
    fsync,
    make_folder,
    open_regular,
    read_json,
    write_json,
)

_Read = TypeVar("_Read")

#: In a folder that is written: the new files, the journal among them, and what writers lock.
_STAGED, _JOURNAL, _LOCK = ".synthkern.saving", ".journal.json", ".synthkern.lock"

#: What the journal lists: files that are new, and files that are gone.
_KEYS = ("written", "removed")

#: Written and removed again, to see whether a folder can be saved to.
_PROBE = ".synthkern.probe"

#: How often files are read while others keep replacing them.
_ATTEMPTS = 100


@dataclass(frozen=True)
class SavedFiles:
    """The files that a folder holds.

    Attributes:
        folder: the folder.
        places: where they are, by name, as far as they are there.
    """

    folder: Path
    places: dict[str, Path]

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self.places

    def path(self, name: str) -> Path:
        """Where a file is, or would be."""
        return self.places.get(name, self.folder / name)


@contextmanager
def saved_folder(path: Path, names: Collection[str]) -> Iterator[Path]:
    """A temporary folder whose files take their places in ``path`` when the block ends well.

    Whenever the process dies, :func:`read_folder` finds the old files or the new ones, all of
    them. Other processes that save to the folder wait until this one is done.

    Args:
        path: a folder, or a symbolic link to one, or nothing yet; missing parents are made.
        names: of all files that belong together, with "/" between an inner folder and its file:
            those that are not written are removed.

    Raises:
        NotADirectoryError: where ``path`` or an inner folder is something else, or the latter a
            symbolic link.
        IsADirectoryError: where one of the files' names is a folder's.
        OSError: naming the folder or the file, where it cannot be written.
    """
    target = Path(os.path.realpath(path))
    for folder in (target.parent, *(target / inner for inner in _inner_folders(names))):
        _finish_if_allowed(folder)  # or it would be finished over what is saved here
    made = make_folder(target)
    try:
        _refuse_misplaced(target, names)
        with locked(target / _LOCK):
            _finish(target)
            staged = target / _STAGED
            try:
                staged.mkdir()
                yield staged
                _write_journal(staged, names)
            except BaseException as error:
                shutil.rmtree(staged, ignore_errors=True)
                _blame_final(error, staged, target)
                raise
            _finish(target)
    except BaseException:
        with suppress(OSError):
            for folder in made:  # where nothing has come into them
                folder.rmdir()
        raise


def check_writable_folder(path: Path, names: Collection[str] = ()) -> None:
    """Save nothing to a folder, which is made where it is missing, to see whether that works.

    Args:
        path: as for :func:`saved_folder`.
        names: of the files that are to be saved there.

    Raises:
        OSError: what :func:`saved_folder` would raise.
    """
    _refuse_misplaced(path, names)
    with saved_folder(path, [_PROBE]) as staged:
        (staged / _PROBE).touch()
        for inner in _inner_folders(names):
            # A mount point is another file system: nothing can be renamed into it.
            if (path / inner).exists():
                (staged / inner).touch()
                os.replace(staged / inner, path / inner / _PROBE)
                (path / inner / _PROBE).unlink()
    (path / _PROBE).unlink(missing_ok=True)


def read_folder(folder: Path, names: Collection[str], read: Callable[[SavedFiles], _Read]) -> _Read:
    """What ``read`` makes of the files of one save, whoever may save others meanwhile.

    Args:
        folder: which they are in.
        names: of the files that belong together.
        read: is given where they are; called again where they were replaced meanwhile.

    Raises:
        OSError: where there is no such folder, or its files were replaced during every attempt.
        ValueError: naming the file, where one is no regular file or the journal is damaged; and
            whatever ``read`` raises about files that stayed.
    """
    os.listdir(folder)  # raises where it is none
    for _ in range(_ATTEMPTS):
        for place in (_above(folder), folder):
            _finish_if_allowed(place)
        with ExitStack() as stack:
            try:
                files, seen = _look(folder, names), {}
                for name, place in files.places.items():
                    # While they are open, no other files can be taken for them.
                    seen[name] = stack.enter_context(open_regular(place)).fileno()
            except FileNotFoundError:  # moved to its place, or removed, meanwhile
                continue
            try:
                found = read(files)
            except (ValueError, OSError):
                if _unchanged(files, seen, names):
                    raise
            else:
                if _unchanged(files, seen, names):
                    return found
    raise OSError(errno.EAGAIN, "other processes keep replacing its files", str(folder))


def has_file(folder: Path, name: str) -> bool:
    """Whether a folder is there and holds a file, or will when its save has been finished."""
    return folder.is_dir() and _look(folder, [name]).has(name)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Within the block no other process has this lock; gives whether this one has it.

    The system lets go of it where the process dies.

    Args:
        path: of a file that is made for it, and removed at the end.
        wait: whether to wait while another process, or thread, has it.

    Raises:
        OSError: naming its folder, where the file cannot be made.
    """
    opened = _lock_file(path, wait=wait)
    try:
        yield opened is not None
    finally:
        if opened is not None:
            # Before it is let go: who waits for it finds that it is gone, and makes another.
            with suppress(OSError):
                path.unlink()
            unlock(opened)


def lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file: whether it is now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock(descriptor: int) -> None:
    """Let go of a file and close it."""
    # A process that was forked meanwhile has it open too, so that closing would not do.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _above(folder: Path) -> Path:
    return Path(os.path.realpath(folder)).parent


def _inner_folders(names: Collection[str]) -> list[str]:
    """The folders within the folder that files are in."""
    return sorted({name.rpartition("/")[0] for name in names} - {""})


def _refuse_misplaced(target: Path, names: Collection[str]) -> None:
    """Raise where a folder has a file's name, or what is no folder has a folder's."""
    for inner in _inner_folders(names):
        # Where a link leads, nothing can be moved to and nothing is for us to remove.
        place = target / inner
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    for name in names:
        if (target / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target / name))


def _lock_file(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds a lock; None where another process does."""
    while True:
        try:
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            error.filename = str(path.parent)  # what cannot be written
            raise
        has = lock(opened, wait=wait)
        if has is False:
            os.close(opened)
            return None
        if _is_at(path, opened):
            return opened
        unlock(opened)


def _write_journal(staged: Path, names: Collection[str]) -> None:
    """Say what the new files are, when they are on the disk."""
    for path in staged.rglob("*"):
        fsync(path)
    written = [str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()]
    for inner in _inner_folders(written):
        # Who reads there then finds the journal.
        (staged.parent / inner).mkdir(exist_ok=True)
    removed = set(names) - set(written)
    write_json(staged / _JOURNAL, {"written": sorted(written), "removed": sorted(removed)})
    fsync(staged)
    fsync(staged.parent)


def _read_journal(staged: Path) -> tuple[list[str], list[str]] | None:
    """Names of the files that are new, and of those that are gone; None where none counts."""
    path = staged / _JOURNAL
    if not os.path.exists(path):  # also where the folder above may not be looked into
        return None
    try:
        data = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with errors_naming(path):
        lists = [data.get(key) if isinstance(data, dict) else None for key in _KEYS]
        for names in lists:
            if not isinstance(names, list) or not all(_is_name(name) for name in names):
                raise ValueError(f"this must be a journal with the lists {', '.join(_KEYS)}")
    written, removed = lists
    assert written is not None
    assert removed is not None
    return written, removed


def _is_name(name: object) -> bool:
    """Whether it is a file's in a folder or an inner one, and leads nowhere else."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return name.count("/") <= 1 and not set(name.split("/")) & {"", ".", ".."}


def _finish(target: Path) -> None:
    """Let the files of a save whose journal is there take their places; remove what is left."""
    staged = target / _STAGED
    journal = _read_journal(staged)
    if journal is not None:
        written, removed = journal
        _refuse_misplaced(target, [*written, *removed])
        for name in written:
            with suppress(FileNotFoundError):  # in its place already
                os.replace(staged / name, target / name)
        for name in removed:
            (target / name).unlink(missing_ok=True)
        for inner in _inner_folders(removed):
            with suppress(OSError):  # where nothing is left in it
                (target / inner).rmdir()
        for folder in (*_inner_folders(written), ""):
            fsync(target / folder)
        (staged / _JOURNAL).unlink()
    if os.path.lexists(staged):
        shutil.rmtree(staged)


def _finish_if_allowed(folder: Path) -> None:
    """Finish a save that was killed, where this process may write and nobody else does it."""
    if not os.path.exists(folder / _STAGED / _JOURNAL) or not os.access(folder, os.W_OK):
        return
    with suppress(OSError), locked(folder / _LOCK, wait=False) as held:
        if held and _read_journal(folder / _STAGED) is not None:
            _finish(folder)


def _look(folder: Path, names: Collection[str]) -> SavedFiles:
    above = _above(folder)
    inner = os.path.basename(os.path.realpath(folder))
    saves = []
    for staged, prefix in ((folder / _STAGED, ""), (above / _STAGED, f"{inner}/")):
        journal = _read_journal(staged)
        if journal is not None:
            saves.append((staged, prefix, *journal))
    places = {}
    for name in names:
        found: Path | None = folder / name
        for staged, prefix, written, removed in saves:
            if prefix + name in written and (staged / prefix / name).exists():
                found = staged / prefix / name
            elif prefix + name in removed:
                found = None
        if found is not None and found.exists():
            places[name] = found
    return SavedFiles(folder, places)


def _unchanged(files: SavedFiles, opened: dict[str, int], names: Collection[str]) -> bool:
    return _look(files.folder, names) == files and all(
        _is_at(files.places[name], descriptor) for name, descriptor in opened.items()
    )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path leads to what is open as ``descriptor``."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _blame_final(error: BaseException, staged: Path, target: Path) -> None:
    """Let an error about a new file name the place that it was for."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        name = Path(error.filename)
        if name.is_relative_to(staged):
            error.filename = str(target / name.relative_to(staged))
