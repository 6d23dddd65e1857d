"""SAEs that are trained on tuples: what crosscoders and transcoders have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from synthkern._checks import as_float, as_int
from synthkern.engine.pre_activations import PreActivations
from synthkern.sae.batchtopk import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from synthkern.sae.config import TrainCoefficientConfig, check_choice, coefficient
from synthkern.sae.standard import l1_step
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.topk import TopKTrainingSAE
from synthkern.sparse import SparseActivations
from synthkern.storage.paths import AnyPath

#: How few latents are active is brought about.
SPARSITIES = ("batchtopk", "topk", "l1")


@dataclass(kw_only=True)
class ViewsTrainingSAEConfig(BatchTopKTrainingSAEConfig):
    """What the configs of crosscoders and transcoders have besides BatchTopK's fields.

    Attributes:
        sparsity: "batchtopk", "topk" (both of ``k``) or "l1".
        l1_coefficient: of the penalty of "l1".
        l1_warm_up_steps: in which it grows from 0.
    """

    #: Whether the last view is what the others are to give, and no input.
    reconstructs_last: ClassVar[bool] = False
    training_only = BatchTopKTrainingSAEConfig.training_only | {
        "sparsity",
        "l1_coefficient",
        "l1_warm_up_steps",
    }

    apply_b_dec_to_input: bool = False
    sparsity: str = "batchtopk"
    l1_coefficient: float = 1.0
    l1_warm_up_steps: int = 0

    def __post_init__(self) -> None:
        check_choice("sparsity", self.sparsity, SPARSITIES)
        super().__post_init__()
        as_float("l1_coefficient", self.l1_coefficient, low=0)
        as_int("l1_warm_up_steps", self.l1_warm_up_steps, low=0)
        if self.sparsity == "l1" and self.k_start is not None:
            raise ValueError(f"k_start must be None with sparsity 'l1', got {self.k_start!r}")
        if self.normalize_activations != "none":
            raise ValueError(
                "normalize_activations must be 'none' where several tensors are trained on, each "
                f"in its own scale, got {self.normalize_activations!r}: scale them before"
            )

    def _as_k(self, name: str, value: Any) -> float:
        if self.sparsity == "batchtopk":
            return super()._as_k(name, value)
        if self.sparsity == "topk":
            return super(BatchTopKTrainingSAEConfig, self)._as_k(name, value)
        return value

    @property
    def view_widths(self) -> tuple[int, ...]:
        """D_v of the tensors [B, D_v] of a batch."""
        raise NotImplementedError

    def world_views(self, num_views: int) -> tuple[int, ...]:
        """Which views of a world that has so many it is trained on, by their numbers."""
        raise NotImplementedError

    @classmethod
    def world_fields(cls, widths: Sequence[int], outputs: int | None) -> dict[str, Any]:
        """The fields that a world decides: of its views of features, and of a map's outputs.

        Raises:
            ValueError: for a world without further views.
        """
        raise NotImplementedError

    def fit_world(self, widths: Sequence[int]) -> bool:
        """Take the widths of a world's views, where it has as many as are needed; gives whether
        they were others.

        Raises:
            ValueError: where it has too few.
        """
        chosen = self.world_views(len(widths))
        if any(view >= len(widths) for view in chosen) or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"sae must be trained on views that the world has, {len(chosen)} of the widths "
                f"{list(self.view_widths)}, got a world whose views have {list(widths)}"
            )
        wanted = tuple(widths[view] for view in chosen)
        differs = wanted != self.view_widths
        if differs:
            self._take_widths(wanted)
        return differs

    def _take_widths(self, widths: Sequence[int]) -> None:
        raise NotImplementedError

    @classmethod
    def inference_architecture(cls) -> str:
        """The same name."""
        return cls.architecture()


class ViewsTrainingSAE(BatchTopKTrainingSAE):
    """One that is trained on tuples of tensors [B, D_v] of the same samples.

    Its steps take the tuples, or these joined as [B, sum of D_v].
    """

    config_class: ClassVar[Any] = ViewsTrainingSAEConfig

    cfg: ViewsTrainingSAEConfig

    def select(
        self,
        pre: PreActivations,
        scale: torch.Tensor | None,
        *,
        positive: bool = True,
        k: float | None = None,
    ) -> SparseActivations:
        """Which pre-activations [B, M] are kept: with "l1" all above 0."""
        if self.cfg.sparsity == "l1":
            return pre.above(torch.zeros_like(self.b_enc))
        if self.cfg.sparsity == "topk":
            return TopKTrainingSAE.select(self, pre, scale, positive=positive, k=k)
        return super().select(pre, scale, positive=positive, k=k)

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """The coefficient "l1", where there is that penalty."""
        if self.cfg.sparsity != "l1":
            return {}
        return {"l1": coefficient(self.cfg.l1_coefficient, self.cfg.l1_warm_up_steps)}

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch: of the reconstruction, and the auxiliary one or the penalty."""
        if self.cfg.sparsity == "l1":
            return l1_step(self, step_input, scale=self.decoder_norms)
        if self.cfg.sparsity == "topk":
            return TopKTrainingSAE.training_forward_pass(self, step_input)
        return super().training_forward_pass(step_input)

    @property
    def has_inference_file(self) -> bool:
        """Whether SAELens has a file for inference of such an SAE."""
        return False

    def save_inference_model(self, path: AnyPath) -> tuple[Path, Path]:
        """None: SAELens has no such SAE for inference.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"SAELens has no file for inference of a {type(self).__name__} of sparsity "
            f"{self.cfg.sparsity!r}: save_model writes one of ours, which load_from_disk reads"
        )


def joined(name: str, views: Any, widths: Sequence[int]) -> torch.Tensor:
    """Tensors [..., D_v] of the same samples side by side, as [..., sum of D_v].

    Args:
        name: of the argument, for errors.
        views: a tuple or list of tensors, or one tensor that is joined already.
        widths: D_v.

    Raises:
        TypeError: for what is no tuple of dense floating-point tensors, naming it.
        ValueError: for another number of tensors, other widths or numbers of samples.
    """
    shapes = ", ".join(f"[..., {width}]" for width in widths)
    expected = f"{name} must be a tuple of {len(widths)} tensors {shapes}"
    if isinstance(views, torch.Tensor):
        if views.shape[-1:] != (sum(widths),):
            raise ValueError(
                f"{expected}, or these joined as [..., {sum(widths)}], got one tensor "
                f"{list(views.shape)}"
            )
        return views
    if not isinstance(views, tuple | list):
        raise TypeError(f"{expected}, got a {type(views).__name__}")
    for view in views:
        if not isinstance(view, torch.Tensor):
            raise TypeError(f"{expected}, got one with a {type(view).__name__}")
        if view.layout != torch.strided or not view.is_floating_point():
            raise TypeError(f"{expected}, dense ones of floats, got {view.dtype}, {view.layout}")
    got = [list(view.shape) for view in views]
    wanted = [
        [*shape[:-1], width] for shape, width in zip(got[:1] * len(widths), widths, strict=False)
    ]
    if not got or got != wanted:
        raise ValueError(f"{expected} of the same samples, got shapes {got}")
    return views[0] if len(views) == 1 else torch.cat(list(views), dim=-1)
