"""Tiles that were measured, kept in a file for every device and shape of work.

The file is ``tiles.json`` in the user's cache folder (see
:func:`synthkern.storage.cache_folder.cache_folder`). It is read once a process; one that cannot be
used is ignored with a warning.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from synthkern.storage.cache_folder import cache_folder
from synthkern.storage.files import make_folder, read_json, write_json

#: Of what the file says; another format is not read.
_FORMAT = 1

Numbers = dict[str, int]

_entries: dict[str, Numbers] | None = None


def path() -> Path:
    """Where the file is, or would be."""
    return cache_folder() / "tiles.json"


def entries() -> dict[str, Numbers]:
    """What was measured, by key."""
    global _entries
    if _entries is None:
        _entries = _read(path())
    return _entries


def store(key: str, numbers: Numbers) -> Path:
    """Add an entry to the file, which keeps what other processes wrote, and to this process.

    Raises:
        OSError: where the file cannot be written.
    """
    global _entries
    file = path()
    make_folder(file.parent)
    known = {**_read(file), key: numbers}
    write_json(file, {"format": _FORMAT, "tiles": known})
    _entries = known
    return file


def reject(key: str, error: Exception) -> None:
    """Leave an entry out from here on, with a warning."""
    _warn(path(), error)
    del entries()[key]


def forget() -> None:
    """Read the file again when something is next looked up."""
    global _entries
    _entries = None


def _read(file: Path) -> dict[str, Numbers]:
    try:
        if not file.exists():
            return {}
        return _checked(read_json(file))
    except (OSError, ValueError) as error:
        _warn(file, error)
        return {}


def _warn(file: Path, error: Exception) -> None:
    warnings.warn(f"tiles are chosen without {file}: {error}", stacklevel=2)


def _checked(data: Any) -> dict[str, Numbers]:
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        got = data.get("format") if isinstance(data, dict) else data
        raise ValueError(f"format must be {_FORMAT}, got {got!r}")
    tiles = data.get("tiles")
    if not isinstance(tiles, dict) or not all(_are_numbers(value) for value in tiles.values()):
        raise ValueError(f"tiles must be numbers by name, by key, got {tiles!r}")
    return tiles


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())
