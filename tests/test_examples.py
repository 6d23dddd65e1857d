"""Every public class and function has an example in its docstring, and it runs as printed."""

from __future__ import annotations

import copy
import doctest
import inspect
from pathlib import Path
from typing import Protocol

import pytest

import synthkern as synthetic
from synthkern.sae import registry
from synthkern.world import magnitudes, probabilities

NAMES = [
    name
    for name, value in vars(synthetic).items()
    if name in synthetic.__all__
    and (inspect.isclass(value) or inspect.isfunction(value))
    and Protocol not in getattr(value, "__bases__", ())
]


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an example registers or writes is gone after it."""
    monkeypatch.chdir(tmp_path)
    for module, name in (
        (registry, "_REGISTRY"),
        (magnitudes, "MAGNITUDE_REGISTRY"),
        (probabilities, "FIRING_PROB_REGISTRY"),
    ):
        monkeypatch.setattr(module, name, copy.copy(getattr(module, name)))


@pytest.mark.parametrize("name", NAMES)
def test_example_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(synthetic, name), name, globs={})
    assert example.examples, f"{name} has no example"
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.DocTestRunner(optionflags=flags).run(example)
    assert not failed, capsys.readouterr().out
