"""What is kept beside a world's files: what they are of, and digests by which they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthkern._version import __version__
from synthkern.model.files import MODEL_FILENAMES
from synthkern.storage.files import errors_naming, file_hash, read_json, write_json
from synthkern.storage.saved_folder import SavedFiles

NOTE_FILENAME = "world.json"

#: Of the note; another format is another package's.
_FORMAT = 1

#: What a note has, and of which kinds.
_KINDS: dict[str, Any] = {
    "synthkern": str,
    "world": dict,
    "build_seconds": float | int,
    "warnings": list,
    "files": dict,
}

#: What the config in it has at least.
_SIZES = ("num_features", "hidden_dim")


def write_note(
    folder: Path, config: dict[str, Any], build_seconds: float, warnings: Sequence[str]
) -> None:
    """Write the note of a world whose files are in a folder.

    Args:
        folder: of the files, and no others.
        config: of the world, as JSON types.
        build_seconds: how long its building took.
        warnings: what its building warned of.
    """
    note = {
        "format": _FORMAT,
        "synthkern": __version__,
        "world": config,
        "build_seconds": round(build_seconds, 3),
        "warnings": list(warnings),
        "files": {path.name: file_hash(path) for path in sorted(folder.iterdir())},
    }
    write_json(folder / NOTE_FILENAME, note)


def read_note(path: Path) -> dict[str, Any]:
    """What a world's note says.

    Raises:
        ValueError: naming it, where that is not what one says.
        OSError: where it cannot be read.
    """
    note = read_json(path)
    with errors_naming(path):
        if not isinstance(note, dict) or note.get("format") != _FORMAT:
            raise ValueError(f"this must be a world's note of the format {_FORMAT}, got {note!r}")
        for name, kind in _KINDS.items():
            if not isinstance(note.get(name), kind):
                raise ValueError(f"{name} must not be {note.get(name)!r}")
        if not all(isinstance(note["world"].get(name), int) for name in _SIZES):
            raise ValueError(f"world must have {' and '.join(_SIZES)}, got {note['world']!r}")
        if not all(isinstance(message, str) for message in note["warnings"]):
            raise ValueError(f"warnings must be strings, got {note['warnings']!r}")
    return note


def check_files(files: SavedFiles, config: dict[str, Any]) -> dict[str, Any]:
    """The note of a world whose files are as they were written, and of that config.

    Raises:
        ValueError: naming the file that is not.
        OSError: where one cannot be read.
    """
    path = files.path(NOTE_FILENAME)
    note = read_note(path)
    if note["world"] != config:
        raise ValueError(f"{path} must be of the world that is asked for, but it is of another")
    there = {name for name in MODEL_FILENAMES if files.has(name)}
    if there != note["files"].keys():
        raise ValueError(f"{path} lists {sorted(note['files'])}, but there are {sorted(there)}")
    for name, digest in note["files"].items():
        if file_hash(files.path(name)) != digest:
            raise ValueError(f"{files.path(name)} must be as it was written, but has changed")
    return note
