"""How the true features fare, one by one: found at all, detected, and by how often they fire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.calculator import Array
from synthkern.evaluation.metric import Batch, Metric, Subject

#: |cosine|s from which on a feature counts as found.
THRESHOLDS = (0.5, 0.8, 0.9)

#: The bins of :attr:`SyntheticDataEvalResult.by_frequency`, in their order.
BINS = (
    "rarest fifth",
    "second fifth",
    "third fifth",
    "fourth fifth",
    "most frequent fifth",
    "rarest quarter",
)


@dataclass(frozen=True)
class FrequencyBin:
    """Features that fire about as often.

    Attributes:
        low: least share of the samples that one of them fires in; NaN without features.
        high: the greatest.
        features: how many they are.
        f1: mean over them of the F1 of the best latent that each is matched by; see
            :func:`feature_f1`.
        coverage: from a threshold to the share of them that some decoder row has at least that
            |cosine| with.
        mcc: mean over them of the |cosine| with the latent that the one-to-one assignment over all
            features gives each; 0 for one without.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 16, seed=0))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=6))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, 1000, seed=0
        ... )
        >>> [(each.features, each.coverage[0.9]) for each in result.by_frequency]
        [(2, 0.5), (2, 0.5), (2, 1.0), (1, 1.0), (1, 1.0), (2, 0.5)]
    """

    low: float
    high: float
    features: int
    f1: float
    coverage: dict[float, float]
    mcc: float


class FeatureMetrics(Metric):
    """F1 and coverage over all true features, and by their frequency.

    A feature's F1 is that of the best latent that it is matched by: of all latents whose decoder
    row has its greatest |cosine| with this feature, the one with the greatest F1 as a detector of
    it, 0 where it is the best match of none. ``f1_all_features = sum_j F1_j / N`` is in [0, 1], and
    so is ``coverage(t)``, the share of the N features j with ``max_i |cos(W_dec[i], f_j)| >= t``,
    which no sample has a say in.

    ``by_frequency`` has both, and the MCC, for bins of features by the rate that they fire at in
    the samples: five bins of as many features each as can be, from the rarest on, and at last the
    rarest quarter of all. A bin's ``mcc`` counts 0 for features that the assignment leaves alone,
    so that the features' mean over all bins is ``mcc * min(M, N) / N``. Which bin a feature is in
    is decided once, by all samples, and standard errors are those of the bins as they are: without
    a group, features of about the same rate would change places, and errors be 2 to 3 times as
    large as what other draws show.
    """

    fields = ("f1_all_features", "coverage", "by_frequency")

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._fires = np.zeros(subject.num_features, np.int64)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where there are features."""
        return subject.num_features > 0

    def add_batch(self, batch: Batch) -> None:
        """Count how often each feature fires."""
        fires = torch.bincount(batch.features.indices, minlength=len(self._fires))
        self._fires += fires.cpu().numpy()

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See above."""
        matching = self.subject.matching
        assigned = np.zeros(self.subject.num_features)
        assigned[matching.assigned[1]] = matching.assigned_cosine
        features, f1 = feature_f1(matching.best, latents["f1_score"])
        cosine = matching.cosine_of_b
        rates = self._fires / max(1, self.subject.samples)
        bins = [
            {
                "low": rates[members].min(initial=np.inf) if len(members) else np.nan,
                "high": rates[members].max(initial=0) if len(members) else np.nan,
                "features": len(members),
                "f1": f1[:, np.isin(features, members)].sum(axis=1) / max(1, len(members)),
                "coverage": coverage(cosine[members]),
                "mcc": assigned[members].sum() / max(1, len(members)),
            }
            for members in _bins(self._fires)
        ]
        return {
            "f1_all_features": f1.sum(axis=1) / self.subject.num_features,
            "coverage": coverage(cosine),
            "by_frequency": bins,
        }


def feature_f1(best: npt.NDArray[np.int64], f1_score: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """The features [U] that are some latent's best match, and the greatest F1 of these latents.

    Args:
        best: [M] the feature of each latent.
        f1_score: [..., M] of each latent, as a detector of it.

    Returns:
        ascending, and [..., U].
    """
    order = best.argsort(kind="stable")
    features, starts = np.unique(best[order], return_index=True)
    if not len(features):
        return features, f1_score
    return features, np.maximum.reduceat(f1_score[..., order], starts, axis=-1)


def coverage(cosine: Array) -> dict[float, float]:
    """The share of features that some decoder row has a |cosine| [N] of each threshold with.

    In float32 a cosine of 1 may come out below it, by rounding; thresholds are below 1.
    """
    return {
        threshold: np.count_nonzero(cosine >= threshold) / max(1, len(cosine))
        for threshold in THRESHOLDS
    }


def _bins(fires: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The features of each bin; of equal rates those of lower numbers are in the rarer."""
    order = fires.argsort(kind="stable")
    return [*np.array_split(order, len(BINS) - 1), order[: -(-len(order) // 4)]]
