"""SAEs of a user's own: Python files that define architectures."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from synthkern.sae.base import TrainingSAE
from synthkern.sae.registry import architecture_names, get_architecture, register_architecture
from synthkern.storage.python_file import load_python_file


def load_architectures(path: Path) -> list[str]:
    """Register the architectures that a Python file defines; gives their names, sorted.

    These are the subclasses of :class:`TrainingSAE` defined there, under the names that their
    configs have, whether the file registers them itself or not.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: naming the file, where it fails, defines none, or takes a name that is taken.
    """
    module = load_python_file(path)
    found: dict[str, Any] = {}
    for kind in vars(module).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, TrainingSAE)
            and kind.__module__ == module.__name__
            and not inspect.isabstract(kind)
        ):
            found[kind.config_class.architecture()] = kind
    if not found:
        raise ValueError(f"{path} must define a subclass of TrainingSAE, but it does not")
    for name, kind in found.items():
        if name not in architecture_names():
            register_architecture(name, kind)
        elif get_architecture(name) is not kind:
            raise ValueError(f"{path} defines the architecture {name!r}, which there is already")
    return sorted(found)
