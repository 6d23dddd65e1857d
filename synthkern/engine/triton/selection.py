"""Which latents are active, on the GPU; float64 is left to the reference."""

from __future__ import annotations

import torch

from synthkern.engine.reference import selection as reference
from synthkern.engine.triton.selection_cuts import kept
from synthkern.engine.triton.selection_digits import cut_groups
from synthkern.engine.triton.selection_rows import MOST, cut_rows
from synthkern.sparse import SparseActivations


def select_topk(
    pre: torch.Tensor, scale: torch.Tensor | None, k: int, positive: bool, /
) -> SparseActivations:
    """The k largest of every sample."""
    if pre.dtype != torch.float32 or k == 0 or len(pre) == 0:
        return reference.select_topk(pre, scale, k, positive)
    pre, scale = _as_read(pre, scale)
    if pre.shape[1] <= MOST:
        cuts = cut_rows(pre, scale, k, positive)
    else:
        cuts = cut_groups(pre, scale, k, positive, rows=1)
    offsets = _before(cuts.above + cuts.equal)
    return kept(pre, scale, cuts, offsets, k * len(pre), full=not positive)


def select_batch_topk(
    pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
) -> SparseActivations:
    """The largest of the batch."""
    if pre.dtype != torch.float32 or count == 0:
        return reference.select_batch_topk(pre, scale, count, positive)
    pre, scale = _as_read(pre, scale)
    cuts = cut_groups(pre, scale, count, positive, rows=len(pre))
    above = _before(cuts.above)
    # The batch's first of those that are equal, until there are ``count``.
    ties = torch.minimum(_before(cuts.equal), count - above[-1])
    return kept(pre, scale, cuts, above + ties, count, full=not positive)


def _as_read(
    pre: torch.Tensor, scale: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return pre.detach().contiguous(), None if scale is None else scale.detach().contiguous()


def _before(counts: torch.Tensor) -> torch.Tensor:
    """Sums [B + 1] of the counts before each row, and of all."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))
