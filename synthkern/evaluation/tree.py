"""Figures of figures: numbers in dataclasses, lists and dictionaries; in logs and in files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from synthkern._checks import is_number


def plain(value: Any, leaf: Callable[[Any], Any] = lambda number: number) -> Any:
    """The same as JSON types: dictionaries with texts for keys, lists, and each leaf's ``leaf``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), leaf) for f in fields(value)}
    if isinstance(value, dict):
        return {_key(key): plain(each, leaf) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each, leaf) for each in value]
    return leaf(value)


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of plain figures by the way there, "by_frequency/0/f1"; of lists by the place."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(f"{name}/{key}", each)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from leaves(f"{name}/{place}", each)
    else:
        yield name, value


def built(name: str, kind: Any, value: Any) -> Any:
    """The figures of a kind that plain ones stand for; null is NaN, and what is not known left out.

    Args:
        name: what errors call it.
        kind: float or int, a dataclass, or list[...] or dict[..., ...] of these; one of them or
            None is the first.
        value: as JSON has it.

    Raises:
        ValueError: for anything that is none.
    """
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
        # Of a number null is NaN; of figures with parts, as asdict gives them, that there are none.
        has_parts = kind not in (float, int)
        return None if value is None and has_parts else built(name, kind, value)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list, got {value!r}")
        (inner,) = get_args(kind)
        return [built(f"{name}[{place}]", inner, each) for place, each in enumerate(value)]
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object, got {value!r}")
        if origin is dict:
            of_key, inner = get_args(kind)
            return {of_key(key): built(f"{name}.{key}", inner, v) for key, v in value.items()}
        hints = get_type_hints(kind)
        missing = [each.name for each in fields(kind) if each.name not in value]
        if missing:
            raise ValueError(f"{name} must have {', '.join(missing)}, got {sorted(value)}")
        return kind(
            **{
                each.name: built(f"{name}.{each.name}", hints[each.name], value[each.name])
                for each in fields(kind)
            }
        )
    if value is None:
        return math.nan
    if not is_number(value):
        raise ValueError(f"{name} must be a number or null, got {value!r}")
    return kind(value)


def names(name: str, kind: Any) -> Iterator[str]:
    """The leaves that every value of a kind has, as :func:`leaves` calls them."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        for each in get_args(kind):
            yield from names(name, each)
    elif is_dataclass(kind):
        hints = get_type_hints(kind)
        for each in fields(kind):
            yield from names(f"{name}/{each.name}", hints[each.name])
    elif kind in (float, int):
        yield name


def _key(key: Any) -> str:
    return key if isinstance(key, str) else f"{key:g}"
