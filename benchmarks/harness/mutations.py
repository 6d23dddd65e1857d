"""Damage to files: what disks, editors and people who mean harm do to them, drawn from a seed."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: In place of a value in JSON, as text: some of these no writer of JSON would give.
_VALUES = (
    *("null", "true", "0", "-1", "5", "1e-400", "1e999", "NaN", "-Infinity", '""', '"x"', "[]"),
    *("{}", "[null]", '{"a": 1}', str(2**31), str(2**63), str(2**64), str(10**30), "9" * 5000),
    *("1" + "0" * 400, "[" * 3000, "[" * 20 + "]" * 20, '"' + "x" * 10**5 + '"', '"\\ud800"'),
    *('"../../../x"', '"/dev/zero"', "1.5", "-0.0", '"cuda:99"', '"float99"', '"\\u0000"'),
)
#: In place of a piece of YAML.
_YAML = (
    *("*a", "&a [*a]", "1e-3", "2e6", "!!timestamp x", "!!binary x", "!!bool x", "2001-99-99"),
    *("<<: 3", "? [a]", "!!python/name:os.system", "- " * 500, "{a: 1, a: 2}", "\t", "--- 1\n---"),
    *("0x" + "f" * 5000, "1:" * 500 + "1", ".inf", ".nan", "|", ">", "%YAML 9.9", "@", "`"),
)
#: In a column of a database.
_COLUMNS = (None, "", "x", 5, -1, 2.5, b"", b"x", "{}", "[]", "null", '{"a": "x"}', "[" * 10**4)


def mutate(folder: Path, draw: random.Random) -> str:
    """Damage a file of a folder, once or a few times; says how."""
    done = []
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            break
        path = draw.choice(files)
        ways = list(_OF_ANY)
        # Most of what is said in a file is said as text.
        ways += 3 * _OF_KIND.get(path.suffix, [])
        way = draw.choice(ways)
        try:
            way(path, draw)
        except (ValueError, LookupError, RecursionError, sqlite3.Error):
            continue  # what was damaged before is no such file any more
        done.append(f"{way.__name__.strip('_')} {path.name}")
    return ", ".join(done)


# ---- bytes of any file --------------------------------------------------------------------------


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) + 1)])


def _remove(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    at = draw.randrange(len(data))
    path.write_bytes(data[:at] + data[at + draw.randrange(1, 40) :])


def _insert(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    at, first = draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)
    more = draw.choice((draw.randbytes(9), data[first : first + 50], b"\0" * 9, b"\xff" * 8))
    path.write_bytes(data[:at] + more + data[at:])


def _zero(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data))
    end = min(len(data), at + draw.choice((1, 8, 64)))
    data[at:end] = bytes([draw.choice((0, 255))]) * (end - at)
    path.write_bytes(data)


def _replace(path: Path, draw: random.Random) -> None:
    """Another kind of thing in the file's place."""
    path.unlink()
    kind = draw.choice(("nothing", "pipe", "device", "folder", "loop", "other", "number"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "number":
        path.write_text("5")
    elif kind != "nothing":
        others = [other for other in sorted(path.parent.iterdir()) if other.is_file()]
        other = draw.choice(others).name if kind == "other" and others else path.name
        path.symlink_to("/dev/zero" if kind == "device" else other)


# ---- text ---------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key or index) of a value of JSON."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if not isinstance(here, dict | list):
            continue
        for key in list(here) if isinstance(here, dict) else range(len(here)):
            found.append((here, key))
            waiting.append(here[key])
    return found


def _changed_json(text: str, draw: random.Random) -> str:
    data = json.loads(text)
    place, key = draw.choice(_places(data))
    mark, chosen = "\0mark", draw.choice(_VALUES)
    way = draw.choice(("value", "value", "value", "delete", "rename", "twice", "swap"))
    if way == "delete":
        del place[key]
    elif way == "rename" and isinstance(place, dict):
        place[draw.choice((str(key) + "x", "x", ""))] = place.pop(key)
    elif way == "swap":
        other, its_key = draw.choice(_places(data))
        place[key], other[its_key] = json.loads(json.dumps([other[its_key], place[key]]))
    elif way == "twice" and isinstance(place, dict):
        place[mark] = chosen
        text = json.dumps(data)
        return text.replace(json.dumps(mark), json.dumps(str(key))).replace(
            json.dumps(chosen), chosen
        )
    else:
        place[key] = mark
    return json.dumps(data).replace(json.dumps(mark), chosen)


def _change_json(path: Path, draw: random.Random) -> None:
    path.write_text(_changed_json(path.read_text(), draw), errors="replace")


def _change_header(path: Path, draw: random.Random) -> None:
    """The header of a safetensors file, with the size that it then has."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = _changed_json(data[8:end].decode(), draw).encode(errors="replace")
    size = len(header) if draw.random() < 0.9 else draw.choice((0, 2**40, 2**64 - 1))
    path.write_bytes(size.to_bytes(8, "little") + header + data[end:])


def _change_yaml(path: Path, draw: random.Random) -> None:
    lines = path.read_text().splitlines()
    at = draw.randrange(len(lines))
    head, colon, _ = lines[at].partition(":")
    new = draw.choice((*_YAML, *_VALUES))
    lines[at] = draw.choice((f"{head}{colon} {new}", new, lines[at] + "\n" + lines[at], ""))
    path.write_text("\n".join(lines) + "\n", errors="replace")


def _change_database(path: Path, draw: random.Random) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        (table,) = draw.choice(tables)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        connection.execute(
            f"UPDATE {table} SET {draw.choice(columns)} = ? WHERE rowid = 1",
            (draw.choice(_COLUMNS),),
        )
    finally:
        connection.close()


_Way = Callable[[Path, random.Random], None]

_OF_ANY: tuple[_Way, ...] = (_flip, _cut, _remove, _insert, _zero, _replace)
_OF_KIND: dict[str, list[_Way]] = {
    ".json": [_change_json, _change_json],
    ".safetensors": [_change_header, _change_header],
    ".yaml": [_change_yaml, _change_yaml],
    ".sqlite": [_change_database, _change_database],
}
