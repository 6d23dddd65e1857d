"""Configs of another package's class of the same name, SAELens' above all, as our own."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar


class _Config(Protocol):
    @classmethod
    def from_dict(cls, d: Any) -> Any: ...


_Kind = TypeVar("_Kind", bound=_Config)


def as_config(name: str, value: Any, kind: type[_Kind]) -> _Kind:
    """A config of ``kind`` as it is; one of another package's class of that name as our own.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, kind):
        return value
    if is_foreign(value, kind):
        return kind.from_dict(value.to_dict())
    raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")


def is_foreign(value: Any, kind: type[Any]) -> bool:
    """Whether ``value`` is of a class of another package that is, or derives from, ``kind``'s
    namesake and can be written as a dictionary.
    """
    named = any(base.__name__ == kind.__name__ for base in type(value).__mro__)
    return named and callable(getattr(value, "to_dict", None))
