"""Files that are either whole or not there: written under a temporary name and renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
import torch


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it; gives those that were missing, the innermost first.

    A symbolic link to a folder that is not there yet leads to where it is made.

    Raises:
        NotADirectoryError: where there is something else.
        OSError: naming what cannot be made.
    """
    target = Path(os.path.realpath(path))
    missing = [parent for parent in (target, *target.parents) if not parent.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target)) from error
    for made in missing:
        fsync(made.parent)
    return missing


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file under a temporary name beside ``path``, then rename it.

    A symbolic link stays, and the file that it leads to is replaced. Errors of the system that
    name no file, such as of a full disk, name ``path``.

    Raises:
        ValueError: where there is a device or a pipe.
        OSError: where the file cannot be written.
    """
    with _temporary(path) as (temporary, final):
        write(temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only their owner may read.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)


def check_writable_file(path: Path) -> None:
    """See whether :func:`write_atomically` would work, and make the folders that are missing.

    Raises:
        OSError: what it would raise.
        ValueError: likewise.
    """
    make_folder(path.parent)
    with _temporary(path):
        pass


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, Path]]:
    """A temporary file beside where ``path`` leads, which is removed unless it was renamed."""
    final = Path(os.path.realpath(path))
    if final.exists():
        _refuse_special(path, final.stat().st_mode)
    # Short enough whatever the name: it has at most 255 bytes, a character up to four.
    start = final.parent / f".{final.name[:50]}."
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=start.name, suffix=".tmp", dir=start.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary, final
    except OSError as error:
        is_own = error.filename is None or str(error.filename).startswith(str(start))
        if error.errno is not None and is_own:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file of tensors of any layout and device: the same bytes each time.

    Raises:
        OSError: naming the file, with the system's number of what is wrong.
    """
    ready = _separate(tensors)

    def write(to: Path) -> None:
        safetensors.torch.save_file(ready, to, metadata)
        if metadata is not None and len(metadata) > 1:
            _sort_metadata(to)

    try:
        write_atomically(path, write)
    except safetensors.SafetensorError as error:
        raise _os_error(path, error) from error


def write_json(path: Path, data: Any, *, indent: int | None = 2) -> None:
    """Write JSON, indented or, with None, in one line."""
    separators = (",", ":") if indent is None else None
    try:
        text = json.dumps(data, indent=indent, separators=separators, allow_nan=False)
    except RecursionError:
        raise ValueError(f"{path.name} must not be nested deeper than JSON can be") from None
    write_atomically(path, lambda to: _write_text(to, text + "\n"))


def open_regular(path: Path) -> FileIO:
    """Open a file to read; a pipe would keep who reads it waiting, and a device has no end.

    Raises:
        IsADirectoryError: for a folder.
        ValueError: naming it, for anything else that is no regular file.
        OSError: naming it, where it cannot be opened.
    """
    _refuse_special(path, os.stat(path).st_mode)
    # Somebody may have put another one there meanwhile: without waiting, and looked at again.
    file = FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    try:
        _refuse_special(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path) -> bytes:
    """All that a regular file holds; see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.readall()


def read_json(path: Path) -> Any:
    """Read JSON; an error names the file.

    Raises:
        ValueError: naming the file, where :func:`parse_json` refuses what it holds.
        OSError: where it cannot be opened.
    """
    data = read_bytes(path)
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file, but {error}") from error


def parse_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: for anything else, for NaN and infinity, for a name that stands twice in an
            object, of which one would be lost, and for what is nested too deep.
    """
    try:
        return json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            parse_constant=_refuse,
            object_pairs_hook=_once,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def file_hash(path: Path) -> str:
    """What a regular file's bytes are known by: SHA-256, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Errors about what a file says become ValueErrors that name it."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: what it says is nested too deep") from error


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as the format takes them: on the CPU, contiguous, none in another's memory."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        ready = tensor.detach().cpu().contiguous()
        memory = ready.untyped_storage().data_ptr()
        found[name] = ready.clone() if memory in seen else ready
        seen.add(memory)
    return found


def _sort_metadata(path: Path) -> None:
    """Put a safetensors file's metadata in order, which safetensors writes in any."""
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size, f"the header of {path} must have {size} bytes, got {len(text)}"
        file.seek(8)
        # What was padding stays spaces.
        file.write(text.ljust(size))


def _os_error(path: Path, error: safetensors.SafetensorError) -> OSError:
    """What the system said, which safetensors has only as text."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return OSError(f"{path} could not be written: {error}")
    code = int(number[1])
    return OSError(code, os.strerror(code), str(path))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _refuse_special(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} must be a regular file, but it is none")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def fsync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have none of folders
            raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
