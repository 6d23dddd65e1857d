"""This package in the place of SAELens', for programs that cannot be edited."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.util import find_spec
from types import ModuleType, TracebackType

_OURS, _THEIRS = "synthkern.synthetic", "sae_lens.synthetic"
_PACKAGE = "sae_lens"

#: What stood in the place of our modules, None where nothing did; empty where not installed.
_before: dict[str, ModuleType | None] = {}


class Installation:
    """What :func:`install` returns: a context that undoes it at its end."""

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        uninstall()


def install() -> Installation:
    """Let ``sae_lens.synthetic`` and its modules be ours, for all imports from now on.

    Works with and without SAELens. The rest of it stays its own, and what imported names from its
    package before keeps them. A second call changes nothing.

    Returns:
        A context whose end is :func:`uninstall`; without ``with`` it lasts.
    """
    if _before:
        return Installation()
    if _PACKAGE not in sys.modules:
        if find_spec(_PACKAGE) is not None:
            importlib.import_module(_PACKAGE)
        else:
            stand_in = ModuleType(_PACKAGE, "Stands in for SAELens, of which only this is there.")
            stand_in.__path__ = []
            _before[_PACKAGE] = None
            sys.modules[_PACKAGE] = stand_in
    package = importlib.import_module(_OURS)
    names = [_OURS]
    names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{_OURS}.")]
    for name in names:
        if name.rpartition(".")[2].startswith("_"):
            continue
        theirs = _THEIRS + name.removeprefix(_OURS)
        _before[theirs] = sys.modules.get(theirs)
        sys.modules[theirs] = importlib.import_module(name)
    sys.modules[_PACKAGE].synthetic = package  # type: ignore[attr-defined]
    return Installation()


def uninstall() -> None:
    """Undo :func:`install`; without it nothing happens."""
    if not _before:
        return
    package, theirs = sys.modules[_PACKAGE], _before[_THEIRS]
    if theirs is None:
        del package.synthetic
    else:
        package.synthetic = theirs  # type: ignore[attr-defined]
    for name, module in _before.items():
        if module is None:
            del sys.modules[name]
        else:
            sys.modules[name] = module
    _before.clear()
