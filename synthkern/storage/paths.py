"""Paths as users give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

#: What a user may give as a path.
AnyPath: TypeAlias = str | os.PathLike[str]

#: Bytes of a file's or a folder's name that the usual file systems take.
_NAME_BYTES = 255


def as_path(name: str, value: Any) -> Path:
    """Return ``value`` as a path; a "~" or "~user" that it begins with becomes the home folder.

    Whether there is something of that name is not looked at.

    Raises:
        TypeError: for anything but a string or an ``os.PathLike`` of one; bytes are refused.
        ValueError: for "", a NUL character, and a name that no file system takes.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, a string or an os.PathLike of one, got {value!r}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path, not empty and without NUL, got {text!r}")
    path = Path(os.path.expanduser(text))
    for part in path.parts:
        try:
            size = len(os.fsencode(part))
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} must be a path in the file system's encoding, {error.encoding}, "
                f"got {text!r}"
            ) from error
        if size > _NAME_BYTES:
            raise ValueError(
                f"{name} must be a path of names of at most {_NAME_BYTES} bytes, got {size} of "
                f"{part[:40]!r}..."
            )
    return path


def as_optional_path(name: str, value: Any) -> Path | None:
    """Return ``value`` as a path, or None as it is; see :func:`as_path`."""
    return None if value is None else as_path(name, value)
