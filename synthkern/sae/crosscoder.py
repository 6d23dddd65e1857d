"""Crosscoders: latents that several views of the same samples share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from synthkern._checks import as_int
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.views import ViewsTrainingSAE, ViewsTrainingSAEConfig, joined
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named


@dataclass(kw_only=True)
class CrosscoderTrainingSAEConfig(ViewsTrainingSAEConfig):
    """A crosscoder; see :class:`CrosscoderTrainingSAE`.

    Attributes:
        d_views: the views' widths D_v, one at least.
        d_sae: M, the number of latents.
        d_in: their sum, which follows from them.
        decoder_init_norm: norm of each view's decoder rows at the start.
        apply_b_dec_to_input: whether each view's decoder bias is subtracted from it; not by
            default.
        rescale_acts_by_decoder_norm: whether latents compete, and are given, times the sum of
            their decoder rows' norms over the views.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[8, 6], d_sae=16, k=2)
        >>> cfg.d_in, synthetic.TrainingSAEConfig.from_dict(cfg.to_dict()) == cfg
        (14, True)
    """

    d_views: list[int]
    d_sae: int
    d_in: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.d_views, list | tuple) or not self.d_views:
            raise ValueError(
                f"d_views must be a list of the views' widths, one at least, got {self.d_views!r}"
            )
        self.d_views = [as_int("d_views", width, low=1) for width in self.d_views]
        whole = sum(self.d_views)
        if self.d_in not in (0, whole):
            raise ValueError(f"d_in must be {whole}, the sum of d_views, got {self.d_in!r}")
        self.d_in = whole
        super().__post_init__()

    @property
    def view_widths(self) -> tuple[int, ...]:
        """``d_views``."""
        return tuple(self.d_views)

    def world_views(self, num_views: int) -> tuple[int, ...]:
        """The first, as many as ``d_views``."""
        return tuple(range(len(self.d_views)))

    @classmethod
    def world_fields(cls, widths: Sequence[int], outputs: int | None) -> dict[str, Any]:
        """All views of features."""
        if len(widths) == 1:
            raise ValueError("world must have several views of features for a crosscoder, got one")
        return {"d_views": list(widths), "d_in": sum(widths)}

    def _take_widths(self, widths: Sequence[int]) -> None:
        self.d_views, self.d_in = list(widths), sum(widths)

    architecture = named("crosscoder")


class CrosscoderTrainingSAE(ViewsTrainingSAE):
    """An acausal crosscoder (Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and
    Model Diffing"), with L1 as there, or TopK or BatchTopK (Minder et al. 2025, "Overcoming
    Sparsity Artifacts in Crosscoders to Interpret Chat-Tuning").

    Views x_v [B, D_v] of the same samples, such as the activations of several layers or models,
    have the latents ``f = relu(sum over v of x_v W_enc[v] + b_enc)`` in common; each view is
    reconstructed as ``f W_dec[v] + b_dec[v]``. The loss is the sum over the views of the squared
    distance (mean over the samples), and with "l1" the mean of ``sum of f * n``, where n is the sum
    over the views of the norms of a latent's decoder rows. With "batchtopk" and "topk" the largest
    ``f * n`` are kept, and dead latents reconstruct what is left, as in
    :class:`BatchTopKTrainingSAE`. With one view it is such an SAE.

    Everything is done on the views side by side: ``W_enc`` is [sum of D_v, M], ``W_dec``
    [M, sum of D_v] and ``b_dec`` [sum of D_v], so that a step has one product and one gather, as
    many views as there are. :attr:`encoders`, :attr:`decoders` and :attr:`biases` are the views'
    parts of these. ``encode`` takes tuples of views, or one tensor of them side by side;
    ``decode`` gives such a tensor, :meth:`split` its views.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[8, 6], d_sae=16, k=2)
        >>> sae = synthetic.CrosscoderTrainingSAE(cfg)
        >>> pairs = [(torch.randn(32, 8), torch.randn(32, 6)) for _ in range(10)]
        >>> training = synthetic.TrainingConfig(training_samples=320, batch_size=32)
        >>> result = synthetic.train_sae(sae, pairs, training)
        >>> sae.encode(pairs[0]).shape, [view.shape for view in sae(pairs[0])]
        (torch.Size([32, 16]), [torch.Size([32, 8]), torch.Size([32, 6])])
        >>> sae.view_norms.shape  # how much of each latent is in each view
        torch.Size([2, 16])
    """

    config_class = CrosscoderTrainingSAEConfig

    cfg: CrosscoderTrainingSAEConfig

    def draw_decoder(self) -> None:
        """As an SAE's; each view's rows are of the config's norm."""
        super().draw_decoder()
        norm = self.cfg.decoder_init_norm
        if norm is not None:
            for rows in self.split(self.W_dec.detach()):
                rows *= norm / torch.linalg.vector_norm(rows, dim=-1, keepdim=True)

    def joined(self, views: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Views [..., D_v] side by side, [..., sum of D_v]; what is that already stays."""
        return joined("views", views, self.cfg.d_views)

    def split(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The views [..., D_v] of what has them side by side, in the same memory."""
        return tuple(rows.split(self.cfg.d_views, dim=-1))

    @property
    def encoders(self) -> tuple[torch.Tensor, ...]:
        """W_enc of each view, [D_v, M]."""
        return tuple(self.W_enc.split(self.cfg.d_views))

    @property
    def decoders(self) -> tuple[torch.Tensor, ...]:
        """W_dec of each view, [M, D_v]."""
        return self.split(self.W_dec)

    @property
    def biases(self) -> tuple[torch.Tensor, ...]:
        """b_dec of each view, [D_v]."""
        return self.split(self.b_dec)

    @property
    def view_norms(self) -> torch.Tensor:
        """Norms of the decoder's rows in each view, [V, M]."""
        return torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in self.decoders])

    def row_norms(self) -> torch.Tensor:
        """Sums over the views of the norms of the decoder's rows, [M]."""
        return self.view_norms.sum(dim=0)

    def encode(self, x: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Activations of the latents [..., M] of a tuple of views [..., D_v]."""
        return super().encode(self.joined(x))

    def encode_sparse(self, x: torch.Tensor | Sequence[torch.Tensor]) -> SparseActivations:
        """Activations of the latents, in CSR form, of a tuple of views [B, D_v]."""
        return super().encode_sparse(self.joined(x))

    def encode_with_hidden_pre(
        self, x: torch.Tensor | Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and scaled pre-activations, both [..., M], of a tuple of views [..., D_v]."""
        return super().encode_with_hidden_pre(self.joined(x))

    def forward(self, x: torch.Tensor | Sequence[torch.Tensor]) -> Any:
        """Reconstructions of views: a tuple of a tuple, and one tensor of one."""
        output = super().forward(self.joined(x))
        return output if isinstance(x, torch.Tensor) else self.split(output)

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch; ``sae_in`` and ``sae_out`` have the views side by side.

        ``step_input.sae_in`` may be the tuple of views itself.
        """
        return super().training_forward_pass(
            replace(step_input, sae_in=self.joined(step_input.sae_in))
        )
