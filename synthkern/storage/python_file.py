"""Python files of a user's own, as modules."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
    except (Exception, SystemExit) as error:  # a script that ends would end whoever loads it
        del sys.modules[name]
        raise ValueError(f"{path} fails: {type(error).__name__}: {error}") from error
    return module
