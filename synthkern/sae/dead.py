"""The dead latents that the auxiliary loss lets speak."""

from __future__ import annotations

from typing import NamedTuple

import torch

from synthkern import engine
from synthkern.engine.pre_activations import PreActivations
from synthkern.sparse import SparseActivations


class DeadEntries(NamedTuple):
    """The largest pre-activations of dead latents.

    Attributes:
        entries: [B, M], their values without gradients; None where all of the dead latents' are.
        padding: [nnz] bool, those that are of no dead latent and must not count; None for none.
        share: how many are dead of the ``k_aux`` that the loss takes, at most 1.
        latents: [L] the dead ones, ascending; None where no shape may depend on them.
    """

    entries: SparseActivations | None
    padding: torch.Tensor | None
    share: float | torch.Tensor
    latents: torch.Tensor | None = None

    @property
    def density(self) -> float:
        """The share of the dead latents' pre-activations that are entries, 0 where not known."""
        if self.entries is None:
            return 1.0
        if self.latents is None:
            return 0.0
        return self.entries.nnz / max(1, self.entries.batch_size * len(self.latents))

    def mask(self) -> torch.Tensor:
        """[B, L] bool, which of the dead latents' pre-activations are entries."""
        assert self.latents is not None
        assert self.entries is not None
        size = self.entries.batch_size, len(self.latents)
        found = torch.zeros(size, dtype=torch.bool, device=self.latents.device)
        columns = torch.searchsorted(self.latents, self.entries.indices.long())
        found[self.entries.row_indices(), columns] = True
        return found


def largest_dead(
    pre: PreActivations,
    scale: torch.Tensor | None,
    mask: torch.Tensor,
    begin: int,
    k_aux: int,
    *,
    magnitude: bool = False,
    as_latents: bool = False,
) -> DeadEntries | None:
    """The ``k_aux`` largest of each sample, or all where fewer latents are dead; None for none.

    Args:
        pre: pre-activations [B, M].
        scale: [M] that they compete by, or None.
        mask: [W] bool, which of the latents from ``begin`` on are dead.
        begin: the first latent that may be.
        k_aux: at least 1.
        magnitude: whether absolute values decide.
        as_latents: whether all of them may be given without entries.
    """
    dead = mask.nonzero().flatten() + begin
    if not dead.numel():
        return None
    if as_latents and dead.numel() <= k_aux:
        return DeadEntries(None, None, dead.numel() / k_aux, dead)
    found = engine.select_topk(
        pre.of_latents(dead),
        min(k_aux, dead.numel()),
        scale=None if scale is None else scale[dead],
        positive=False,
        magnitude=magnitude,
    )
    indices = dead.to(torch.int32)[found.indices]
    entries = SparseActivations(found.offsets, indices, found.values, pre.shape[1], validate=False)
    return DeadEntries(entries, None, min(dead.numel() / k_aux, 1.0), dead)


def largest_dead_of_room(
    pre: PreActivations,
    scale: torch.Tensor | None,
    mask: torch.Tensor,
    begin: int,
    k_aux: int,
    room: int,
    *,
    magnitude: bool = False,
) -> DeadEntries | None:
    """The same in ``room`` entries of each sample, padded, however many latents are dead.

    No shape depends on the mask. All of the dead, or ``k_aux`` of them, must have room.
    """
    room = min(room, k_aux, mask.numel())
    if room == 0:
        return None
    numbers = pre.dense()
    keys = numbers[:, begin : begin + mask.numel()]
    if scale is not None:
        keys = keys * scale[begin : begin + mask.numel()]
    if magnitude:
        keys = keys.abs()
    found = engine.select_topk(keys.masked_fill(~mask, -torch.inf), room, positive=False)
    indices = found.indices + begin
    values = numbers.gather(1, indices.long().view(len(pre), room)).flatten().to(found.dtype)
    entries = SparseActivations(found.offsets, indices, values, pre.shape[1], validate=False)
    # In float64 as Python divides.
    share = (mask.sum().double() / k_aux).clamp(max=1).to(found.dtype)
    return DeadEntries(entries, ~mask[found.indices], share)
