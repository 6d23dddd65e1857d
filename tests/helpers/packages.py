"""Packages that may or may not be installed, as a test wants them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest


def pretend(patch: pytest.MonkeyPatch, *names: str, there: bool) -> None:
    """Let packages be found, or not."""
    find = importlib.util.find_spec
    found = object() if there else None
    patch.setattr(importlib.util, "find_spec", lambda name: found if name in names else find(name))


def hide_plotly(patch: pytest.MonkeyPatch) -> None:
    """As where it is not installed."""
    for name in ["plotly", *(name for name in sys.modules if name.partition(".")[0] == "plotly")]:
        patch.setitem(sys.modules, name, None)


def pretend_kaleido(patch: pytest.MonkeyPatch, write: Callable[..., Any]) -> None:
    """``write`` a figure where kaleido would; whether it and a browser are there is no matter."""
    graph = importlib.import_module("plotly.graph_objects")
    pretend(patch, "kaleido", there=True)
    patch.setattr(graph.Figure, "write_image", write)
