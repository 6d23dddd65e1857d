"""Who imports whom: rooms build on what stands above them in README's table, without circles."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from places import ROOT

PACKAGE = ROOT / "synthkern"

#: Modules that every room may use; they use none.
COMMON = ("_checks", "_table", "_version", "_warnings")


@cache
def imports() -> dict[str, set[str]]:
    """What each module of the package imports of the package, types alone included."""
    paths = {_name(path): path for path in PACKAGE.rglob("*.py")}
    return {name: set(_imported(path, paths)) - {name} for name, path in paths.items()}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(path: Path, paths: dict[str, Path]) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                # The compiled core is a module, though no file here.
                found.append(inner if inner in paths or alias.name == "_core" else str(node.module))
    return [name for name in found if name in paths]


def rooms() -> list[str]:
    """The package's folders and single modules, from the ground up, as README's table has them."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## How the code is laid out")[1]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(?:synthkern/)?(\w+)(?:/|\.py)`", " ".join(cells))
    return [name for name in named if (PACKAGE / name).is_dir() or name == "sparse"]


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_table_names_every_room() -> None:
    there = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert sorted(rooms()) == sorted({*there, "sparse"})


def test_nothing_is_imported_from_below() -> None:
    order = {
        name: place for place, name in enumerate([*COMMON, *rooms(), "_names", "synthetic", ""])
    }
    order["__main__"] = len(order)
    upward = [
        f"{module} imports {other}"
        for module, found in imports().items()
        for other in found
        if order[_room(other)] > order[_room(module)]
    ]
    assert upward == []


def test_no_circle() -> None:
    left = {module: set(found) for module, found in imports().items()}
    while True:
        leaves = {module for module, found in left.items() if not found & left.keys()}
        if not leaves:
            break
        for module in leaves:
            del left[module]
    assert sorted(left) == []


def test_few_modules_stand_beside_the_rooms() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_the_tests_of_a_room_are_in_its_folder() -> None:
    beside = {"benchmarks", "client", "helpers", "saelens"}
    there = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert there - beside <= set(rooms())
