"""Which latents are active, from dense pre-activations."""

from __future__ import annotations

import torch

from synthkern.sparse import SparseActivations


def select_topk(
    pre: torch.Tensor,
    scale: torch.Tensor | None,
    k: int,
    positive: bool,
    magnitude: bool = False,
    /,
) -> SparseActivations:
    """The k largest of every sample; a stable sort leaves equal ones in ascending order."""
    keys = _keys(pre, scale)
    if magnitude:
        keys = keys.abs()
    order = keys.argsort(dim=1, descending=True, stable=True)[:, :k]
    chosen = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, order, True)
    return _entries(pre, chosen & (keys > 0) if positive else chosen)


def select_batch_topk(
    pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
) -> SparseActivations:
    """The largest of the batch."""
    keys = _keys(pre, scale)
    order = keys.flatten().argsort(descending=True, stable=True)[:count]
    chosen = torch.zeros(pre.numel(), dtype=torch.bool, device=pre.device)
    chosen[order] = True
    chosen = chosen.view_as(pre)
    return _entries(pre, chosen & (keys > 0) if positive else chosen)


def select_above(pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations:
    """All above their latent's bound."""
    return _entries(pre, ~(pre <= bounds))


def _keys(pre: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    keys = pre if scale is None else pre * scale
    return keys.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _entries(pre: torch.Tensor, chosen: torch.Tensor) -> SparseActivations:
    rows, indices = chosen.nonzero(as_tuple=True)
    offsets = torch.nn.functional.pad(chosen.sum(dim=1).cumsum(0), (1, 0))
    return SparseActivations(
        offsets, indices.to(torch.int32), pre[rows, indices], pre.shape[1], validate=False
    )
