"""BatchTopK: a batch keeps its k largest latents per sample on average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_float
from synthkern.engine.pre_activations import PreActivations
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.topk import TopKTrainingSAE, TopKTrainingSAEConfig, ranks
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named


@dataclass
class BatchTopKTrainingSAEConfig(TopKTrainingSAEConfig):
    """A BatchTopK SAE; see :class:`BatchTopKTrainingSAE`.

    Attributes:
        k: latents of a sample on average, a batch of B keeps int(k * B).
        topk_threshold_lr: rate at which the threshold for inference follows the least activation
            that a batch keeps.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.BatchTopKTrainingSAEConfig(d_in=8, d_sae=16, k=2.5)
        >>> cfg.architecture(), cfg.inference_architecture()
        ('batchtopk', 'jumprelu')
    """

    topk_threshold_lr: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        as_float("topk_threshold_lr", self.topk_threshold_lr, low=0, high=1)

    def _as_k(self, name: str, value: Any) -> float:
        as_float(name, value, low=0, high=self.d_sae, open_low=True)
        return value

    architecture = named("batchtopk")

    @classmethod
    def inference_architecture(cls) -> str:
        """The name "jumprelu": what is active does not depend on a batch there."""
        return "jumprelu"


class BatchTopKTrainingSAE(TopKTrainingSAE):
    """A BatchTopK SAE (Bussmann et al. 2024, "BatchTopK Sparse Autoencoders").

    Attributes:
        topk_threshold: [] float64, learnt in training: a latent is active at inference where its
            activation exceeds this, whatever else is in the batch.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> _ = torch.manual_seed(0)
        >>> cfg = synthetic.BatchTopKTrainingSAEConfig(d_in=8, d_sae=16, k=2)
        >>> sae = synthetic.BatchTopKTrainingSAE(cfg)
        >>> int(sae.encode(torch.randn(10, 8)).count_nonzero())  # k of a sample on average
        20
    """

    config_class = BatchTopKTrainingSAEConfig
    has_static_steps = True

    cfg: BatchTopKTrainingSAEConfig
    topk_threshold: torch.Tensor

    def __init__(self, cfg: BatchTopKTrainingSAEConfig) -> None:
        super().__init__(cfg)
        # In float64, as a hundredth of a small difference vanishes beside a float32.
        threshold = torch.zeros((), dtype=torch.float64, device=cfg.device)
        self.register_buffer("topk_threshold", threshold)

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> BatchTopKTrainingSAE:
        """Follow nn.Module.to and its kin, but keep the threshold in float64."""
        before = self.topk_threshold
        super()._apply(fn, recurse)
        after = self.topk_threshold
        self.topk_threshold = (after if before.is_meta else before.to(after.device)).double()
        return self

    def select(
        self,
        pre: PreActivations,
        scale: torch.Tensor | None,
        *,
        positive: bool = True,
        k: float | None = None,
    ) -> SparseActivations:
        """Which pre-activations [B, M] are kept: as many as there are, or only those above 0.

        ``k`` is given where it is not the config's.
        """
        k = self.cfg.k if k is None else k
        return pre.batch_topk(int(k * len(pre)), scale, positive=positive)

    def _is_beyond(self, keys: torch.Tensor, k: torch.Tensor, batch: int) -> torch.Tensor:
        """Which of the keys [nnz] of a batch are not among its largest, ``k`` of a sample."""
        return ranks(keys) >= (k * batch).long()

    def inference_state(self) -> dict[str, torch.Tensor]:
        """The tensors for inference by name: a JumpReLU's, whose thresholds are the learnt one."""
        state = super().inference_state()
        threshold = state.pop("topk_threshold")
        dtype = torch.promote_types(self.W_dec.dtype, torch.float32)
        state["threshold"] = threshold.to(dtype).expand(self.cfg.d_sae)
        return state

    def _fold_input_scale(self, factor: float) -> None:
        super()._fold_input_scale(factor)
        if self.cfg.rescale_acts_by_decoder_norm:
            self.topk_threshold /= factor

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """As TopK's; moves the threshold too, which is among the metrics."""
        output = super().training_forward_pass(step_input)
        assert isinstance(output.latents, SparseActivations)
        self._follow(output.latents.values)
        output.metrics["topk_threshold"] = self.topk_threshold.clone()
        return output

    @torch.no_grad()
    def _follow(self, kept: torch.Tensor) -> None:
        if kept.numel():
            least = kept.where(kept != 0, torch.inf).min().to(self.topk_threshold.dtype)
            rate = self.cfg.topk_threshold_lr
            moved = (1 - rate) * self.topk_threshold + rate * least
            # In place, as a CUDA graph finds it again there. Infinity: none is kept.
            self.topk_threshold.copy_(moved.where(least < torch.inf, self.topk_threshold))
