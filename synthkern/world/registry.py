"""Config families: dataclasses known by a name, which round-trip through plain dictionaries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch

from synthkern._checks import check_keys
from synthkern.world.foreign import is_foreign

_Self = TypeVar("_Self", bound="GeneratorConfig")
_Plain = TypeVar("_Plain", bound="PlainConfig")
#: An entry of a registry.
T = TypeVar("T")


@dataclass
class PlainConfig:
    """A recipe that is its fields. Subclasses are dataclasses."""

    #: What errors call a dictionary of its fields.
    _called: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[_Plain], d: Mapping[str, Any]) -> _Plain:
        """The config that :meth:`to_dict` describes; unknown keys are refused."""
        check_keys(cls._called, d, {f.name for f in fields(cls)})
        return cls(**d)


@dataclass
class GeneratorConfig(ABC):
    """A recipe for one number per feature. Subclasses are dataclasses."""

    @classmethod
    @abstractmethod
    def generator_name(cls) -> str:
        """The name that stands for this class in a dictionary."""

    @abstractmethod
    def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
        """The numbers, float32 [num_features]. ``seed`` matters only where they are random."""

    @classmethod
    @abstractmethod
    def _registry(cls) -> Registry[Any]:
        """The family that this class belongs to."""

    @classmethod
    def adopt(cls: type[_Self], value: Any) -> _Self | None:
        """A config of this family as it is, one of SAELens' as our own; None for anything else.

        One of a user's class that derives from SAELens' base stays as it is: it generates, and
        writes itself as a dictionary, and more is not asked of it.
        """
        if isinstance(value, cls):
            return value
        if not is_foreign(value, cls):
            return None
        found = cls._registry().get(value.generator_name())
        if found is None or found.__name__ != type(value).__name__:
            return value
        return cls.from_dict(value.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The fields and ``generator_name``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "generator_name": self.generator_name()}

    @classmethod
    def from_dict(cls: type[_Self], d: Mapping[str, Any]) -> _Self:
        """The config that :meth:`to_dict` describes, of the class that its name stands for.

        Raises:
            ValueError: for an unknown name or key, or where the name stands for another class
                than the one this is called on.
        """
        if not isinstance(d, Mapping):
            raise TypeError(f"d must be a mapping, got {d!r}")
        if "generator_name" not in d:
            raise ValueError(f"d must have the key 'generator_name', got {sorted(d)}")
        found = cls._registry().get_or_raise(d["generator_name"])
        if not issubclass(found, cls):
            raise ValueError(
                f"generator_name must stand for a {cls.__name__}, got {d['generator_name']!r}"
            )
        values = {key: value for key, value in d.items() if key != "generator_name"}
        check_keys("d", values, {f.name for f in fields(found)})
        return found(**values)


def named(name: str) -> Any:
    """A class method that returns ``name``, which stands for its class in a dictionary."""

    def name_of(cls: type[Any]) -> str:
        """The name that stands for this class in a dictionary."""
        return name

    return classmethod(name_of)


class Registry(dict[str, T]):
    """Entries by name; one that is taken cannot be registered again.

    Args:
        kind: what the entries are, for errors.
        base: the class that entries derive from, or None where they may be anything.
    """

    def __init__(self, *, kind: str = "name", base: type[Any] | None = None) -> None:
        super().__init__()
        self._kind = kind
        self._base = base

    def register(self, name: str, value: T) -> None:
        """Make ``name`` stand for ``value``; a name can be taken once."""
        if self._base is not None and not (
            isinstance(value, type) and issubclass(value, self._base)
        ):
            raise TypeError(
                f"config_class must be a subclass of {self._base.__name__}, got {value!r}"
            )
        if name in self:
            raise ValueError(
                f"name must be a {self._kind} that is not registered yet, got {name!r}; "
                f"known are {sorted(self)}"
            )
        self[name] = value

    def get_or_raise(self, name: str) -> T:
        """The entry that ``name`` stands for."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(
                f"name must be a registered {self._kind}, got {name!r}; known are {sorted(self)}"
            )
        return self[name]
