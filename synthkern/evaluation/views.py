"""Views of a world in a crosscoder, and a map in a transcoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.calculator import Array
from synthkern.evaluation.matching import mean_correlation_coefficient
from synthkern.evaluation.metric import Metric, Subject
from synthkern.evaluation.splitting import STANDS_FOR

#: The share of its decoder rows' norms from which on a latent is called exclusive to a view, the
#: relative norm of "Sparse Crosscoders for Cross-Layer Features and Model Diffing".
EXCLUSIVE_FROM = 0.9


@dataclass(frozen=True)
class ViewRecovery:
    """How well latents of several views are those of the world; all of it depends on no sample.

    A latent stands for the feature that its decoder row, all views side by side, has the greatest
    |cosine| with, where that is 0.5 or more. It is called exclusive to view v where its decoder row
    there has 0.9 or more of the sum over the views of its rows' norms; else it is called shared. A
    feature is exclusive where its vectors in all other views are zero.

    Attributes:
        mcc: of each view by itself, the MCC of the latents' decoder rows there and the vectors of
            the features that are present; in [0, 1].
        accuracy: share of the latents that stand for a feature which are called as this one is,
            exclusive to the same view or shared; in [0, 1], and NaN where none does.
        precision: share of those called exclusive whose feature is exclusive to that view; in
            [0, 1], and NaN where none is.
        recall: share of those whose feature is exclusive that are called exclusive to its view; in
            [0, 1], and NaN where there is none.
        exclusive: share of those that stand for a feature which are called exclusive; in [0, 1],
            and NaN where none does.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(hidden_dims=[16], exclusive_portion=0.5)
        >>> cfg = synthetic.SyntheticModelConfig(8, 16, seed=0, views=views)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[16, 16], d_sae=8, k=2)
        >>> sae = synthetic.CrosscoderTrainingSAE(cfg)
        >>> for part, dictionary in zip(
        ...     sae.decoders, [model.feature_dict, *model.views.dictionaries], strict=True
        ... ):
        ...     _ = part.detach().copy_(dictionary.feature_vectors.detach())
        >>> result = synthetic.eval_sae_on_views(sae, model, 100, seed=0)
        >>> result.views.accuracy, result.views.recall, result.views.exclusive
        (1.0, 1.0, 0.5)
    """

    mcc: list[float]
    accuracy: float
    precision: float
    recall: float
    exclusive: float


class ViewsMetric(Metric):
    """Makes :class:`ViewRecovery`."""

    fields = ("views",)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where several views stand side by side."""
        views = subject.views
        return views is not None and len(views.widths) > 1 and views.encoder is None

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See :class:`ViewRecovery`."""
        subject = self.subject
        assert subject.views is not None
        widths = list(subject.views.widths)
        rows = subject.decoder.detach().split(widths, dim=1)
        vectors = subject.vectors.split(widths, dim=1)
        there = [(part != 0).any(dim=1) for part in vectors]
        mcc = [
            mean_correlation_coefficient(row, part[has].to(row.device))
            for row, part, has in zip(rows, vectors, there, strict=True)
        ]
        stands = np.flatnonzero(subject.matching.nearest_cosine[:, :1].ravel() >= STANDS_FOR)
        norms = torch.stack([torch.linalg.vector_norm(row.double(), dim=1) for row in rows])
        called = _called(norms.cpu().numpy())[stands]
        present = torch.stack(there).cpu().numpy()
        # The number of the only view, or -1.
        truth = np.where(present.sum(axis=0) == 1, present.argmax(axis=0), -1)
        true = truth[subject.matching.best[stands]]
        right = called == true
        return {
            "views": {
                "mcc": mcc,
                "accuracy": _share(right),
                "precision": _share(right[called >= 0]),
                "recall": _share(right[true >= 0]),
                "exclusive": _share(called >= 0),
            }
        }


def _called(norms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The view that each latent is called exclusive to, by norms [V, M]; -1 for a shared one."""
    shares = norms / np.maximum(norms.sum(axis=0), np.finfo(np.float64).tiny)
    found: npt.NDArray[np.int64] = np.where(
        shares.max(axis=0) >= EXCLUSIVE_FROM, shares.argmax(axis=0), -1
    )
    return found


def _share(which: npt.NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else math.nan


@dataclass(frozen=True)
class MapRecovery:
    """Which edges of a map latents go along; all of it depends on no sample.

    Latents and outputs belong together by the one-to-one matching of decoder rows and outputs'
    vectors, where a pair's |cosine| is 0.5 or more. A latent reads the features of which its
    encoder's product with their vectors is the largest in size: as many as its output has inputs.

    Attributes:
        edges: mean over the outputs of the share of their inputs that their latent reads, 0 for an
            output without a latent; in [0, 1]. By chance it is about the number of inputs over
            that of features.
        outputs: share of the outputs that have a latent; in [0, 1].

    How faithful the whole is, say ``explained_variance``, of the outputs' hidden activations, and
    ``classification``, of latents as detectors of outputs.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(map=synthetic.MapConfig(4, 8))
        >>> cfg = synthetic.SyntheticModelConfig(8, 8, seed=0, views=views)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> cfg = synthetic.TranscoderTrainingSAEConfig(d_in=8, d_out=8, d_sae=6, k=2)
        >>> sae = synthetic.TranscoderTrainingSAE(cfg)
        >>> result = synthetic.eval_sae_on_views(sae, model, 100, seed=0)
        >>> 0 <= result.map_recovery.edges <= result.map_recovery.outputs <= 1
        True
    """

    edges: float
    outputs: float


class MapMetric(Metric):
    """Makes :class:`MapRecovery`."""

    fields = ("map_recovery",)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where a map's outputs are reconstructed by an SAE with an encoder."""
        return subject.views is not None and subject.views.edges is not None

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See :class:`MapRecovery`."""
        subject, views = self.subject, self.subject.views
        assert views is not None
        assert views.edges is not None
        assert views.encoder is not None
        assert views.inputs is not None
        matching = subject.matching
        stands = matching.assigned_cosine >= STANDS_FOR
        latent, output = matching.assigned[:, stands]
        outputs = len(views.edges)
        # Not cosines: an encoder's column may favour a feature by the length of its vector.
        columns = views.encoder.T[torch.from_numpy(latent).to(views.encoder.device)].double()
        found = 0.0
        products = columns @ views.inputs.to(columns.device).double().T
        for row, k in zip(products.abs(), output.tolist(), strict=True):
            edges = views.edges[k]
            read = row.topk(min(len(edges), len(row))).indices.cpu()
            found += float(torch.isin(edges, read).double().mean()) if len(edges) else 0.0
        return {
            "map_recovery": {
                "edges": found / max(1, outputs),
                "outputs": len(latent) / max(1, outputs),
            }
        }
