"""Every public name, signature and field of SAELens' ``sae_lens.synthetic`` beside ours."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import warnings
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")


pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

MODULES = [
    "",
    *sorted(
        module.name.removeprefix("sae_lens.synthetic")
        for module in pkgutil.walk_packages(peer.__path__, "sae_lens.synthetic.")
    ),
]

#: Names that SAELens' modules hold and ours do not, with the reason.
MISSING = {
    "SAE": "SAELens' base class of SAEs; ours are TrainingSAEs, and anything is evaluated",
    "DataProvider": "a type that SAELens' trainer is annotated with",
    "SaveCheckpointFn": "a type that SAELens' trainer is annotated with",
    "get_sae_training_class": "SAELens' registry of architectures; ours is get_architecture",
    "str_to_dtype": "a helper of sae_lens.util",
    "temporary_seed": "a helper of sae_lens.util, known gap",
}


def names_of(module: Any) -> set[str]:
    """What a module of SAELens defines, or takes from elsewhere in SAELens, without underscore."""
    names: set[str] = set()
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sae_lens"):
            names |= {alias.asname or alias.name for alias in node.names}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", MODULES)
def test_every_public_name_is_there(path: str) -> None:
    theirs = importlib.import_module("sae_lens.synthetic" + path)
    mirror = importlib.import_module("synthkern.synthetic" + path)
    lacking = {name for name in names_of(theirs) if not hasattr(mirror, name)}
    assert lacking <= set(MISSING)
    assert set(getattr(theirs, "__all__", ())) <= set(mirror.__all__)
    assert all(hasattr(mirror, name) for name in mirror.__all__)
