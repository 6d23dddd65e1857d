"""The README's Python examples run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from synthkern.sae import registry

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # An architecture is registered, for this test alone.
    monkeypatch.setattr(registry._REGISTRY, "_classes", dict(registry._REGISTRY._classes))
    text = README.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 7
    names: dict[str, object] = {}
    for source, width in zip(examples, (128, 8, 128, 128, 128, 128, 128), strict=True):
        exec(compile(source, str(README), "exec"), names)
        hidden = names["hidden"]
        assert isinstance(hidden, torch.Tensor)
        assert tuple(hidden.shape) == (1024, width)
