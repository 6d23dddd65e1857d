"""Files that are either whole or not there: written under a temporary name and renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file under a temporary name beside ``path``, then rename it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        write(temporary)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only their owner may read.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def staged_directory(path: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary directory beside ``path`` whose files take their place when the block ends well.

    A new directory appears whole. In one that was there already every file replaces its namesake,
    those of ``names`` that were not written are removed, and what else stands there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        if not path.exists():
            temporary.chmod(0o777 & ~_umask())
            temporary.rename(path)
            return
        for name in names:
            if (temporary / name).exists():
                (temporary / name).replace(path / name)
            else:
                (path / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a safetensors file; an error names it."""
    try:
        write_atomically(path, lambda to: safetensors.torch.save_file(tensors, to))
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; an error names it."""
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, but {error}") from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON, indented."""
    write_atomically(path, lambda to: _dump(to, data))


def read_json(path: Path) -> Any:
    """Read JSON; an error names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a JSON file, but {error}") from error


def _dump(path: Path, data: Any) -> None:
    try:
        text = json.dumps(data, indent=2)
    except RecursionError:
        raise ValueError(f"{path.name} must not be nested deeper than JSON can be") from None
    path.write_text(text + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
