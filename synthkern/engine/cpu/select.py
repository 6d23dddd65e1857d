"""Which latents are active, with the C++ core."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import _core
from synthkern.engine.cpu.arrays import entries, maybe_view, view
from synthkern.sparse import SparseActivations


def _view(pre: torch.Tensor) -> Any:
    """A view of pre-activations; of bfloat16, of which NumPy knows nothing, of their bits."""
    if pre.dtype == torch.bfloat16:
        return view(pre.detach().contiguous().view(torch.uint16))
    return view(pre)


def select_topk(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    k: int,
    positive: bool,
    magnitude: bool = False,
    /,
) -> SparseActivations:
    """The k largest of every sample."""
    threads = torch.get_num_threads()
    found = _core.select_topk(_view(pre), maybe_view(scale), k, positive, magnitude, threads)
    return entries(found, pre.shape[1])


def select_batch_topk(
    pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
) -> SparseActivations:
    """The largest of the batch."""
    threads = torch.get_num_threads()
    found = _core.select_batch_topk(_view(pre), maybe_view(scale), count, positive, threads)
    return entries(found, pre.shape[1])


def select_above(pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations:
    """All above their latent's bound."""
    found = _core.select_above(_view(pre), view(bounds), torch.get_num_threads())
    return entries(found, pre.shape[1])
