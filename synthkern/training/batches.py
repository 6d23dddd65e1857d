"""Batches as anybody's iterable gives them, as hidden activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from synthkern.sae.views import joined


def hidden_batches(
    source: Iterable[Any], width: int | None, dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """The batches of an iterable as tensors [B, D].

    Tensors are taken as they are. A list or tuple of one, as a ``TensorDataset`` gives it, is that
    one; arrays become tensors of ``dtype``.

    Args:
        source: that is gone through once.
        width: D, or None for any.
        dtype: of the SAE.

    Raises:
        TypeError: for a batch of another type, naming it and what came.
        ValueError: for another shape than [B, D], or no sample.
    """
    for number, batch in enumerate(source):
        yield _hidden(f"source: batch {number}", batch, width, dtype)


def joined_batches(
    source: Iterable[Any], widths: tuple[int, ...], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """The tuples of an iterable, each as one tensor [B, sum of D_v]: its views side by side.

    Args:
        source: that is gone through once, of tuples or lists of tensors or arrays [B, D_v]; of
            one view the tensors may come by themselves.
        widths: D_v.
        dtype: of the SAE, which arrays become.

    Raises:
        TypeError: for a batch that is no tuple of these, naming it and what came.
        ValueError: for another number of them, another shape, or no sample.
    """
    shapes = ", ".join(f"[B, {width}]" for width in widths)
    for number, batch in enumerate(source):
        name = f"source: batch {number}"
        alone = len(widths) == 1 and isinstance(batch, torch.Tensor | np.ndarray)
        views = [batch] if alone else batch
        expected = f"{name} must be a tuple of {len(widths)} tensors {shapes}"
        if not isinstance(views, list | tuple):
            raise TypeError(f"{expected}, got {_described(batch)}")
        if len(views) != len(widths):
            raise ValueError(f"{expected}, got {_described(batch)}")
        found = [
            _hidden(f"{name}, view {number}", view, width, dtype)
            for number, (view, width) in enumerate(zip(views, widths, strict=True))
        ]
        yield joined(name, found, widths)


def _hidden(name: str, batch: Any, width: int | None, dtype: torch.dtype) -> torch.Tensor:
    inner = batch
    if isinstance(inner, list | tuple) and len(inner) == 1:
        (inner,) = inner
    if isinstance(inner, np.ndarray) and np.issubdtype(inner.dtype, np.floating):
        # A copy, as the array may be read-only or used again for the next batch.
        inner = torch.tensor(inner, dtype=dtype)
    shape = "[B, D]" if width is None else f"[B, {width}]"
    expected = f"must be a dense floating-point tensor {shape}"
    if not isinstance(inner, torch.Tensor):
        raise TypeError(f"{name} {expected}, got {_described(batch)}")
    if inner.layout != torch.strided or not inner.is_floating_point():
        raise TypeError(f"{name} {expected}, got one of {inner.dtype} and {inner.layout}")
    if inner.dim() != 2 or not len(inner) or width not in (None, inner.shape[1]):
        raise ValueError(f"{name} {expected} with B of 1 at least, got {list(inner.shape)}")
    return inner.detach()


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {list(batch)}"
    if isinstance(batch, list | tuple):
        return f"a {type(batch).__name__} of {len(batch)}"
    if isinstance(batch, np.ndarray):
        return f"an array of {batch.dtype}"
    if isinstance(batch, torch.Tensor):
        return f"one tensor {list(batch.shape)}"
    return f"a {type(batch).__name__}"


class BatchRecord:
    """Which samples the batches of a training were, in a few numbers: most have one size."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, int]] = []

    def add(self, step: int, first: int, size: int) -> None:
        """Note a step's batch: its first sample, and its size."""
        if not self._runs or self._runs[-1][2] != size:
            self._runs.append((step, first, size))

    def samples_of(self, step: int) -> tuple[int, int]:
        """The first and the last sample of a step that was not forgotten."""
        begin, first, size = next(run for run in reversed(self._runs) if run[0] <= step)
        first += (step - begin) * size
        return first, first + size - 1

    def forget_all_but_last(self) -> None:
        """Forget what came before the last batches of one size."""
        del self._runs[:-1]
