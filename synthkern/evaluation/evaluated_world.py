"""The worlds that SAEs are evaluated in: one view, several side by side, or one from another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern._checks import as_int
from synthkern.evaluation.metric import SubjectViews
from synthkern.evaluation.parents import manifolds_of, parents_of
from synthkern.evaluation.sae_interface import weight
from synthkern.model.draw_hidden import draw_hidden
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.plan.manifolds import Manifolds
from synthkern.sparse import SparseActivations

#: Features, what is encoded, and what is to come back.
Samples = tuple[torch.Tensor | SparseActivations, torch.Tensor, torch.Tensor]


class EvaluatedWorld(ABC):
    """What an evaluation asks of a world.

    Attributes:
        generator: of the features.
        vectors: [N, D] of the features, as decoder rows should be.
        parents: see :class:`Subject`.
        manifolds: see :class:`Subject`.
        views: see :class:`Subject`.
        has_target: whether another view is to come back than is encoded.
    """

    generator: Any
    vectors: torch.Tensor
    parents: npt.NDArray[np.int64] | None
    manifolds: Manifolds | None
    views: SubjectViews | None = None
    has_target = False

    @abstractmethod
    def draw(self, count: int, seed: int | None, start: int) -> Samples:
        """Samples start ... start + count - 1 of a seed's stream."""


class OneView(EvaluatedWorld):
    """A generator's features through anybody's dictionary."""

    def __init__(self, feature_dict: Any, generator: Any) -> None:
        self.generator, self._dictionary = generator, feature_dict
        self.vectors = feature_dict.feature_vectors.detach()
        self.parents = parents_of(generator, len(self.vectors))
        self.manifolds = manifolds_of(generator)

    def draw(self, count: int, seed: int | None, start: int) -> Samples:
        """The hidden activations are what is encoded and what is to come back."""
        parts = self.generator, self._dictionary
        hidden, features = draw_hidden(*parts, count, seed, start, features=True)
        assert features is not None
        return features, hidden, hidden


class SeveralViews(EvaluatedWorld):
    """A model's views side by side, which are to come back, or from which another is made.

    Args:
        model: with views.
        views: the numbers of those that are encoded.
        target: of the one that is to come back, or None for these themselves.

    Raises:
        ValueError: where the model has no such views, or what is made of features and what is made
            of a map's outputs stand side by side.
    """

    def __init__(self, model: SyntheticModel, views: Sequence[int], target: int | None) -> None:
        if model.views is None:
            raise ValueError("model must have views, SyntheticModelConfig(views=...), got none")
        count = len(model.view_widths)
        self._model, self.generator = model, model.activation_generator
        self._views = tuple(as_int("views", view, low=0, high=count - 1) for view in views)
        if not self._views:
            raise ValueError("views must name a view at least, got none")
        self.has_target = target is not None
        self._target = None if target is None else as_int("target", target, low=0, high=count - 1)
        back = self._views if self._target is None else (self._target,)
        of_outputs = [view == model.views.num_feature_views for view in back]
        if any(of_outputs) and len(back) > 1:
            raise ValueError(
                f"views must be of the same features, got {list(back)}, of which "
                f"{model.views.num_feature_views} is of a map's outputs"
            )
        self.vectors = self._vectors(back)
        is_map = of_outputs[0]
        self.parents = None if is_map else parents_of(self.generator, len(self.vectors))
        self.manifolds = None if is_map else manifolds_of(self.generator)
        self._back, self._is_map = back, is_map
        self.views = SubjectViews(tuple(model.view_widths[view] for view in back))

    def look_at(self, sae: Any) -> None:
        """Take the SAE's encoder, where another view is encoded than comes back."""
        views = self._model.views
        assert views is not None
        if self._target is None or getattr(sae, "W_enc", None) is None:
            return
        if views.num_feature_views in self._views:
            return  # outputs have no edges to anything
        vectors = self._vectors(self._views)
        encoder = weight(sae, "W_enc", vectors.shape[1], columns=True)
        assert self.views is not None
        edges = views.map.inputs_of() if self._is_map and views.map is not None else None
        self.views = SubjectViews(self.views.widths, encoder.detach(), vectors, edges)

    def draw(self, count: int, seed: int | None, start: int) -> Samples:
        """Views side by side."""
        needed = tuple(dict.fromkeys((*self._views, *self._back)))
        drawn = self._model.draw_views(count, seed=seed, start=start, which=needed)
        hidden = dict(zip(needed, drawn.hidden, strict=True))
        encoded = torch.cat([hidden[view] for view in self._views], dim=1)
        back = encoded if self._target is None else hidden[self._target]
        return drawn.features[needed.index(self._back[0])], encoded, back

    def _vectors(self, views: Sequence[int]) -> torch.Tensor:
        model = self._model
        assert model.views is not None
        every = [model.feature_dict, *model.views.dictionaries]
        return torch.cat([every[view].feature_vectors.detach() for view in views], dim=1)
