"""Transcoders: latents of one view that reconstruct another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthkern._checks import as_bool, as_int
from synthkern.engine import product
from synthkern.sae.base import check_width
from synthkern.sae.config import TrainingSAEConfig, training_dict
from synthkern.sae.files import write_sae
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.views import ViewsTrainingSAE, ViewsTrainingSAEConfig, joined
from synthkern.storage.paths import AnyPath
from synthkern.world.registry import named

#: What SAELens' configs have of every SAE.
_SAELENS_FIELDS = tuple(
    each.name
    for each in fields(TrainingSAEConfig)
    if each.name not in TrainingSAEConfig.training_only
)


@dataclass(kw_only=True)
class TranscoderTrainingSAEConfig(ViewsTrainingSAEConfig):
    """A transcoder; see :class:`TranscoderTrainingSAE`.

    Attributes:
        d_in: width of the input.
        d_out: width of the output.
        use_skip_connection: whether the output has a linear part of the input too.
        apply_b_dec_to_input: False, as ``b_dec`` is the output's.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.TranscoderTrainingSAEConfig(d_in=8, d_out=6, d_sae=16, k=2)
        >>> synthetic.TrainingSAEConfig.from_dict(cfg.to_dict()) == cfg
        True
    """

    # SAELens' files of this name are of a ReLU's.
    reconstructs_last = True
    inference_defaults = {  # noqa: RUF012
        "sparsity": "l1",
        "rescale_acts_by_decoder_norm": False,
    }

    d_out: int
    use_skip_connection: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.d_out = as_int("d_out", self.d_out, low=1)
        as_bool("use_skip_connection", self.use_skip_connection)
        if self.apply_b_dec_to_input:
            raise ValueError(
                "apply_b_dec_to_input must be False for a transcoder, whose b_dec is the output's, "
                "got True"
            )

    @property
    def output_width(self) -> int:
        """``d_out``."""
        return self.d_out

    @property
    def view_widths(self) -> tuple[int, int]:
        """``(d_in, d_out)``."""
        return self.d_in, self.d_out

    def world_views(self, num_views: int) -> tuple[int, int]:
        """The first and the last, which is a map's outputs where there is one."""
        return 0, num_views - 1

    @classmethod
    def world_fields(cls, widths: Sequence[int], outputs: int | None) -> dict[str, Any]:
        """The first view and the last."""
        if len(widths) == 1 and outputs is None:
            raise ValueError("world must have a map or further views for a transcoder, got none")
        return {"d_in": widths[0], "d_out": widths[-1] if outputs is None else outputs}

    def _take_widths(self, widths: Sequence[int]) -> None:
        self.d_in, self.d_out = widths

    architecture = named("transcoder")


class TranscoderTrainingSAE(ViewsTrainingSAE):
    """A transcoder (Dunefsky et al. 2024, "Transcoders Find Interpretable LLM Feature Circuits"),
    with a skip connection where it is asked for (Paulo et al. 2025, "Transcoders Beat Sparse
    Autoencoders for Interpretability").

    Latents of an input x [B, d_in], such as what goes into an MLP, reconstruct an output y
    [B, d_out], what comes out of it, as ``f W_dec + b_dec``, with a skip connection plus
    ``x W_skip.T``. Losses, selection and dead latents are those of :class:`BatchTopKTrainingSAE`,
    of TopK or, with ``sparsity="l1"``, of :class:`StandardTrainingSAE`, with y in place of what an
    SAE reconstructs. It is trained on pairs (x, y).

    Attributes:
        W_enc: parameter [d_in, M].
        W_dec: parameter [M, d_out], drawn apart from W_enc.
        b_enc: parameter [M].
        b_dec: parameter [d_out].
        W_skip: parameter [d_out, d_in], zeros at the start; None without a skip connection.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.TranscoderTrainingSAEConfig(
        ...     d_in=8, d_out=6, d_sae=16, k=2, use_skip_connection=True
        ... )
        >>> sae = synthetic.TranscoderTrainingSAE(cfg)
        >>> inputs = torch.randn(10, 32, 8)
        >>> pairs = ((x, x[:, :6].relu()) for x in inputs)
        >>> training = synthetic.TrainingConfig(training_samples=320, batch_size=32)
        >>> result = synthetic.train_sae(sae, pairs, training)
        >>> sae.encode(inputs[0]).shape, sae(inputs[0]).shape
        (torch.Size([32, 16]), torch.Size([32, 6]))
    """

    config_class = TranscoderTrainingSAEConfig

    cfg: TranscoderTrainingSAEConfig
    W_skip: nn.Parameter | None

    def initialize_weights(self) -> None:
        """Encoder and decoder, each drawn as an SAE's decoder is; the rest is zero."""
        self.draw_decoder()
        like = self.W_dec.detach()
        rows = like.new_empty(self.cfg.d_sae, self.cfg.d_in)
        nn.init.kaiming_uniform_(rows)
        if self.cfg.decoder_init_norm is not None:
            norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            rows *= self.cfg.decoder_init_norm / norms
        self.W_enc = nn.Parameter(rows.T)
        self.b_enc = nn.Parameter(like.new_zeros(self.cfg.d_sae))
        skip = nn.Parameter(like.new_zeros(self.cfg.d_out, self.cfg.d_in))
        self.register_parameter("W_skip", skip if self.cfg.use_skip_connection else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs [..., d_out] of inputs [..., d_in], the skip connection's part included."""
        output, skipped = super().forward(x), self.skipped(x)
        return output if skipped is None else output + skipped

    def skipped(self, x: torch.Tensor) -> torch.Tensor | None:
        """What the skip connection gives of inputs [..., d_in], [..., d_out]; None without one."""
        if self.W_skip is None:
            return None
        return product.linear(x.to(self.W_skip.dtype), self.W_skip, None)

    @property
    def has_inference_file(self) -> bool:
        """All but TopK's have one."""
        return self.cfg.sparsity != "topk"

    def save_inference_model(self, path: AnyPath) -> tuple[Path, Path]:
        """Save for inference by SAELens' ``SAE.load_from_disk``, as :meth:`save_model` does.

        With "l1" as its "transcoder" or "skip_transcoder"; with "batchtopk" as its
        "jumprelu_transcoder" or "jumprelu_skip_transcoder", whose thresholds are the learnt one.
        Where activations are rescaled by the decoder's norms, the encoder is scaled by these and
        the decoder has unit rows. Of the four, the first is read here.

        Raises:
            NotImplementedError: with "topk", which its transcoders have not.
        """
        if not self.has_inference_file:
            return super().save_inference_model(path)
        state = self.inference_state()
        if self.cfg.sparsity == "l1":
            del state["threshold"]
        known = training_dict(self.cfg, self.W_dec.dtype)
        kept = {name: known[name] for name in ("d_out", *_SAELENS_FIELDS)}
        architecture = "jumprelu_" if self.cfg.sparsity == "batchtopk" else ""
        architecture += "skip_" if self.cfg.use_skip_connection else ""
        self.process_state_dict_for_saving_inference(state)
        return write_sae(path, {**kept, "architecture": f"{architecture}transcoder"}, state)

    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        """SAELens' files have no threshold of a batch, nor has the penalty."""
        if self.cfg.sparsity == "l1":
            state_dict.setdefault("topk_threshold", torch.zeros_like(self.topk_threshold))

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch.

        ``step_input`` has the input as ``sae_in`` and the output as ``target``; without a target
        ``sae_in`` is the pair, or its tensors side by side. The result's ``target`` is the output.
        """
        x, y = self._pair(step_input)
        skipped = self.skipped(x)
        # What latents are to give is what the skip connection leaves.
        target = y if skipped is None else y - skipped
        output = super().training_forward_pass(replace(step_input, sae_in=x, target=target))
        if skipped is not None:
            output.sae_out = output.sae_out + skipped
        output.target = y
        return output

    def _pair(self, step_input: TrainStepInput) -> tuple[torch.Tensor, torch.Tensor]:
        target: Any = getattr(step_input, "target", None)
        if target is None:
            pair = joined("sae_in", step_input.sae_in, self.cfg.view_widths)
            x, y = pair.split(self.cfg.view_widths, dim=-1)
            return x.contiguous(), y
        check_width("sae_in", step_input.sae_in, self.cfg.d_in)
        check_width("target", target, self.cfg.d_out)
        return step_input.sae_in, target
