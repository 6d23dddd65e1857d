"""Matryoshka BatchTopK: the first latents must reconstruct by themselves, at several widths."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from synthkern._checks import as_bool, as_int
from synthkern.engine.autograd import gather_entries_and_vectors
from synthkern.sae.base import reconstruction_loss
from synthkern.sae.batchtopk import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from synthkern.sae.step import TrainStepInput
from synthkern.sae.topk import Chosen, Level
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named


@dataclass
class MatryoshkaBatchTopKTrainingSAEConfig(BatchTopKTrainingSAEConfig):
    """A Matryoshka BatchTopK SAE; see :class:`MatryoshkaBatchTopKTrainingSAE`.

    Attributes:
        matryoshka_widths: ascending; the last level has all latents, and is added with a warning
            where it is missing.
        use_matryoshka_aux_loss: whether each level's dead latents get its own residual.
        detach_levels: whether a level's loss moves the level's own latents alone: what the levels
            before it reconstruct is taken as it is, the bias that is added among it, which is the
            first level's. Else a loss moves the latents of all levels up to its own.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.MatryoshkaBatchTopKTrainingSAEConfig(
        ...     d_in=8, d_sae=16, k=2, matryoshka_widths=[2, 4, 16]
        ... )
        >>> cfg.matryoshka_widths
        [2, 4, 16]
    """

    beyond_saelens = BatchTopKTrainingSAEConfig.beyond_saelens | {"detach_levels"}

    matryoshka_widths: list[int] = field(default_factory=list)
    use_matryoshka_aux_loss: bool = False
    detach_levels: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        as_bool("use_matryoshka_aux_loss", self.use_matryoshka_aux_loss)
        as_bool("detach_levels", self.detach_levels)
        widths = [as_int("matryoshka_widths", width, low=1) for width in self.matryoshka_widths]
        ascending = all(a < b for a, b in pairwise(widths))
        if not widths or not ascending or widths[-1] > self.d_sae:
            raise ValueError(
                f"matryoshka_widths must be ascending and at most d_sae ({self.d_sae}), at least "
                f"one of them, got {self.matryoshka_widths}"
            )
        if widths[-1] != self.d_sae:
            warnings.warn(
                f"matryoshka_widths ends at {widths[-1]}; a level of all {self.d_sae} latents is "
                "added",
                stacklevel=3,
            )
            widths.append(self.d_sae)
        if len(widths) == 1:
            warnings.warn(
                "matryoshka_widths has one level, which makes a plain BatchTopK SAE", stacklevel=3
            )
        self.matryoshka_widths = widths

    architecture = named("matryoshka_batchtopk")


class MatryoshkaBatchTopKTrainingSAE(BatchTopKTrainingSAE):
    """A Matryoshka SAE (Bussmann et al. 2025, "Learning Multi-Level Features with Matryoshka
    Sparse Autoencoders") over BatchTopK.

    The latents below each width give a reconstruction of their own, whose loss is added. All
    levels are one gather: a level's latents are a stretch of a sample's entries. With
    ``detach_levels`` a gradient stops between the levels, so that the first latents are trained as
    if there were no others, and the later ones on what those leave.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.MatryoshkaBatchTopKTrainingSAEConfig(
        ...     d_in=8, d_sae=16, k=2, matryoshka_widths=[4, 16]
        ... )
        >>> sae = synthetic.MatryoshkaBatchTopKTrainingSAE(cfg)
        >>> output = sae.training_forward_pass(synthetic.TrainStepInput(torch.randn(10, 8)))
        >>> sorted(output.losses)
        ['auxiliary_reconstruction_loss', 'inner_mse_loss_4', 'mse_loss']
    """

    config_class = MatryoshkaBatchTopKTrainingSAEConfig
    has_static_steps = True

    cfg: MatryoshkaBatchTopKTrainingSAEConfig

    def reconstruct(
        self, entries: SparseActivations, sae_in: torch.Tensor
    ) -> tuple[list[Level], dict[str, torch.Tensor]]:
        """The levels' reconstructions, and their losses by name."""
        widths = self.cfg.matryoshka_widths
        stretches = _by_level(entries, widths)
        zeros = torch.zeros_like(self.b_dec)
        added, vectors = gather_entries_and_vectors(stretches, self.W_dec, zeros)
        by_level = added.view(len(sae_in), len(widths), self.cfg.d_in)
        sums = by_level.cumsum(dim=1) + self.b_dec
        if self.cfg.detach_levels:
            own = torch.cat([by_level[:, :1] + self.b_dec, by_level[:, 1:]], dim=1)
            # The same numbers, with the gradients of each level's own part.
            sums = sums.detach() + (own - own.detach())
        each = reconstruction_loss(sums.transpose(0, 1), sae_in).unbind()
        losses = {
            f"inner_mse_loss_{width}": loss
            for width, loss in zip(widths[:-1], each[:-1], strict=True)
        }
        ends = zip([0, *widths], widths, sums.unbind(dim=1), strict=False)
        return [Level(*level, vectors) for level in ends], {"mse_loss": each[-1], **losses}

    def auxiliary_loss(
        self, step_input: TrainStepInput, chosen: Chosen, levels: list[Level]
    ) -> torch.Tensor:
        """As TopK's, or the sum of every level's."""
        if not self.cfg.use_matryoshka_aux_loss:
            return super().auxiliary_loss(step_input, chosen, levels)
        parts = [self.auxk_loss(step_input, chosen, level) for level in levels]
        return self.cfg.aux_loss_coefficient * torch.stack(parts).sum()


def _by_level(entries: SparseActivations, widths: list[int]) -> SparseActivations:
    """The same entries with a row for each level of each sample."""
    row = entries.row_indices() * len(widths)
    for width in widths[:-1]:
        row += entries.indices >= width
    every = torch.arange(entries.batch_size * len(widths) + 1, device=row.device)
    offsets = torch.searchsorted(row, every)
    return SparseActivations(
        offsets, entries.indices, entries.values, entries.num_features, validate=False
    )
