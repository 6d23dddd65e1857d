"""Several latents for a feature, and several features for a latent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthkern.evaluation.by_feature import THRESHOLDS
from synthkern.evaluation.calculator import Array
from synthkern.evaluation.metric import Metric, Subject

#: The |cosine| from which on a latent stands for its best feature, or answers to another one.
STANDS_FOR = THRESHOLDS[0]

#: Latents of a feature up to which features are counted by their number.
_MOST = 4


@dataclass(frozen=True)
class Splitting:
    """How features are spread over latents; all of it depends on no sample.

    A latent stands for the feature that its decoder row has the greatest |cosine| with, where that
    is 0.5 or more.

    Attributes:
        split: share of the features that some latent stands for that several do; in [0, 1], and 0
            where there are none.
        latents_per_feature: mean number of latents that stand for one of these features; 1 or more,
            or 0 where there are none.
        composition: share of the latents that answer to several features: whose decoder row has a
            |cosine| of 0.5 or more with two features at least; in [0, 1]. Where features are as
            much like each other, the true ones do.
        features: how many of all features 0, 1, 2, 3, and 4 or more latents stand for.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 16, seed=0))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=6))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, 1000, seed=0
        ... )
        >>> result.splitting.split, result.splitting.features
        (0.0, [2, 6, 0, 0, 0])
    """

    split: float
    latents_per_feature: float
    composition: float
    features: list[int]


class SplittingMetric(Metric):
    """Makes :class:`Splitting`.

    Feature splitting is what "Towards Monosemanticity" (Bricken et al., 2023) saw in wider SAEs;
    composition what "Showing SAE Latents Are Not Atomic Using Meta-SAEs" (arXiv 2502.04878) calls
    latents that are made of several features.
    """

    fields = ("splitting",)
    nearest = 2

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where there are features."""
        return subject.num_features > 0

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See :class:`Splitting`."""
        matching = self.subject.matching
        near = matching.nearest_cosine >= STANDS_FOR
        standing = np.bincount(matching.best[near[:, 0]], minlength=self.subject.num_features)
        found = standing[standing > 0]
        return {
            "splitting": {
                "split": np.count_nonzero(found > 1) / max(1, len(found)),
                "latents_per_feature": int(found.sum()) / max(1, len(found)),
                "composition": np.count_nonzero(near[:, 1:2]) / max(1, len(near)),
                "features": np.bincount(standing.clip(max=_MOST), minlength=_MOST + 1).tolist(),
            }
        }
