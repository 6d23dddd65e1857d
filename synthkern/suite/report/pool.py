"""Values that repeat: stored once, and by number."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any


class Pool:
    """Different values in the order in which they first came.

    Attributes:
        values: the different ones.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, value: Any) -> int:
        """Where a value, of JSON types, is in :attr:`values`."""
        simple = value is None or isinstance(value, str | int | float)
        key = (type(value), value) if simple else json.dumps(value, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def pooled(values: Iterable[Any]) -> dict[str, Any]:
    """A column as ``{"values": different ones, "at": number of each row's}``."""
    pool = Pool()
    numbers = [pool.number(value) for value in values]
    return {"values": pool.values, "at": numbers}


def pooled_configs(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Configs with what is common to all once, and of the others each different value once.

    Returns:
        ``common``, a list of pairs of a path (a list of names) and a value; and ``columns``, of
        each other path its ``path`` and what :func:`pooled` gives, with number -1 for a config
        that does not have it. Together these are :func:`leaves` of the configs.
    """
    rows = [dict(leaves(config)) for config in configs]
    paths = dict.fromkeys(path for row in rows for path in row)
    common, columns = [], []
    for path in paths:
        pool = Pool()
        numbers = [pool.number(row[path]) if path in row else -1 for row in rows]
        if len(pool.values) == 1 and -1 not in numbers:
            common.append([list(path), pool.values[0]])
        else:
            columns.append({"path": list(path), "values": pool.values, "at": numbers})
    return {"common": common, "columns": columns}


def leaves(
    config: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterable[tuple[tuple[str, ...], Any]]:
    """The values of nested mappings with their paths; lists and empty mappings are values."""
    for name, value in config.items():
        path = (*above, name)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value
