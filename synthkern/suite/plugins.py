"""SAEs of a user's own: Python files that define architectures."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from synthkern.sae.base import TrainingSAE
from synthkern.sae.registry import architecture_names, get_architecture, register_architecture
from synthkern.storage.files import file_hash

#: Before the names of the modules that files become.
_PREFIX = "synthkern_own_"


def load_python_file(path: Path) -> ModuleType:
    """The module that a Python file is; run once in a process, as long as it says the same.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: naming the file, where it fails.
    """
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a Python file, but there is none")
    name = _PREFIX + hashlib.sha256(f"{path}\0{file_hash(path)}".encode()).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} must be a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} fails: {type(error).__name__}: {error}") from error
    return module


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
