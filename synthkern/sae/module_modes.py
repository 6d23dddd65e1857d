"""Modules in the modes, training or not, that they came in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def keeping_modes(module: nn.Module) -> Iterator[None]:
    """After the block a module and its parts are in the modes that they were in before it."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            if part.training is not mode:
                part.training = mode


@contextmanager
def evaluating(item: object) -> Iterator[None]:
    """A module in evaluation mode, and then as it was; anything else stays as it is."""
    if not isinstance(item, nn.Module):
        yield
        return
    with keeping_modes(item):
        item.eval()
        yield
