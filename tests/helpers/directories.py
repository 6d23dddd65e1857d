"""Directories with files of others in them, written with ``saved_folder``."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthkern.storage.saved_folder import saved_folder

OWN = ("a.json", "b.json")


def forked(work: Callable[[], object]) -> int:
    """The number of a child of this process that does some work and exits, with 1 if it fails."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def write(path: Path | str, **files: str) -> None:
    with saved_folder(path, OWN) as folder:
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)


Contents = dict[str, str | bytes | None]


def contents(directory: Path) -> Contents | None:
    """Everything below a directory: bytes of files, where links lead, None for folders."""
    if not directory.exists():
        return None
    found: Contents = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def add_foreign_files(directory: Path) -> None:
    (directory / "plots" / "old").mkdir(parents=True)
    (directory / "notes.txt").write_text("mine")
    (directory / "plots" / "old" / "a.png").write_bytes(b"png")
    (directory / "plots" / "empty").mkdir()
    (directory / "link").symlink_to("nowhere")


def alone(path: Path) -> bool:
    return list(path.parent.iterdir()) == [path]


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail
