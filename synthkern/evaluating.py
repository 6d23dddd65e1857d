"""A user's module in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(item: object) -> Iterator[None]:
    """A module in evaluation mode, and then as it was; anything else stays as it is."""
    was_training = isinstance(item, nn.Module) and item.training
    if was_training:
        assert isinstance(item, nn.Module)
        item.eval()
    try:
        yield
    finally:
        if was_training:
            assert isinstance(item, nn.Module)
            item.train()
