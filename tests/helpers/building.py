"""Worlds that must not be built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import synthkern as synthetic
from synthkern.model import synthetic_model


@contextmanager
def nothing_is_built() -> Iterator[None]:
    def refuse(cfg: synthetic.SyntheticModelConfig) -> Any:
        raise AssertionError(f"{cfg} was built")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_model, "build_dictionary", refuse)
        yield
