"""Config families: dataclasses known by a name, which round-trip through plain dictionaries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch

from synthkern._checks import check_keys

_Self = TypeVar("_Self", bound="GeneratorConfig")
_Config = TypeVar("_Config", bound="GeneratorConfig")


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

    def to_dict(self) -> dict[str, Any]:
        """The fields and ``generator_name``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "generator_name": self.generator_name()}

    @classmethod
    def from_dict(cls: type[_Self], data: Mapping[str, Any]) -> _Self:
        """The config that :meth:`to_dict` describes, of the class that its name stands for.

        Raises:
            ValueError: for an unknown name or key, or where the name stands for another class
                than the one this is called on.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping, got {data!r}")
        if "generator_name" not in data:
            raise ValueError(f"data must have the key 'generator_name', got {sorted(data)}")
        found = cls._registry().get(data["generator_name"])
        if not issubclass(found, cls):
            raise ValueError(
                f"generator_name must stand for a {cls.__name__}, got {data['generator_name']!r}"
            )
        values = {key: value for key, value in data.items() if key != "generator_name"}
        check_keys("data", values, {f.name for f in fields(found)})
        return found(**values)


class Registry(Generic[_Config]):
    """The classes of a family by name."""

    def __init__(self, kind: str, base: type[Any]) -> None:
        self._kind = kind
        self._base = base
        self._classes: dict[str, type[_Config]] = {}

    def register(self, name: str, config_class: type[_Config]) -> None:
        """Make ``name`` stand for ``config_class``; a name can be taken once."""
        if not (isinstance(config_class, type) and issubclass(config_class, self._base)):
            raise TypeError(
                f"config_class must be a subclass of {self._base.__name__}, got {config_class!r}"
            )
        if name in self._classes:
            raise ValueError(
                f"name must be a {self._kind} that is not registered yet, got {name!r}; "
                f"known are {self.names}"
            )
        self._classes[name] = config_class

    @property
    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._classes)

    def get(self, name: str) -> type[_Config]:
        """The class that ``name`` stands for."""
        if not isinstance(name, str) or name not in self._classes:
            raise ValueError(
                f"name must be a registered {self._kind}, got {name!r}; known are {self.names}"
            )
        return self._classes[name]
