"""Each latent as a detector of the feature that its decoder row is most like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from synthkern import engine
from synthkern.evaluation.calculator import Array, Calculator, Groups, Sums, count
from synthkern.evaluation.entries import Activations, entries_of, positive
from synthkern.evaluation.matching import best_matches, check_vectors
from synthkern.sparse import SparseActivations


@dataclass
class ClassificationMetrics:
    """Means over the latents; a latent counts 0 where its own number is undefined.

    Attributes:
        precision: share of a latent's firings in which its feature fires.
        recall: share of its feature's firings in which the latent fires.
        f1_score: harmonic mean of the two, latent by latent.
        accuracy: share of samples in which both fire or neither.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> latents = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> synthetic.compute_classification_metrics(latents, features, torch.eye(2), torch.eye(2))
        ClassificationMetrics(precision=0.75, recall=1.0, f1_score=0.833..., accuracy=0.75)
    """

    precision: float
    recall: float
    f1_score: float
    accuracy: float


class ClassificationMetricsCalculator(Calculator[ClassificationMetrics]):
    """Latents as detectors of their best-matching features, those of the greatest |cosine|.

    A latent fires where it is not zero, a feature where it is above zero.

    Args:
        sae_decoder: [M, D] decoder rows, floating point, finite.
        gt_features: [N, D] feature vectors, with N at least 1.

    Attributes:
        best_matches: [M] int64, the feature of each latent.
        num_features: N.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> calculator = synthetic.ClassificationMetricsCalculator(torch.eye(2), torch.eye(2))
        >>> for _ in range(3):
        ...     latents = features = torch.eye(2)
        ...     calculator.add_batch(latents, features)
        >>> calculator.tp
        tensor([3., 3.])
        >>> calculator.compute().f1_score
        1.0
    """

    def __init__(self, sae_decoder: torch.Tensor, gt_features: torch.Tensor) -> None:
        check_vectors(("sae_decoder", sae_decoder), ("gt_features", gt_features))
        self._begin(best_matches(sae_decoder, gt_features), len(gt_features))

    @classmethod
    def from_matches(
        cls, best_matches: torch.Tensor, num_features: int
    ) -> ClassificationMetricsCalculator:
        """The calculator of latents whose features are known already."""
        calculator = cls.__new__(cls)
        calculator._begin(best_matches, num_features)
        return calculator

    def _begin(self, best_matches: torch.Tensor, num_features: int) -> None:
        self.best_matches = best_matches
        self.num_features = num_features
        zeros = np.zeros(best_matches.numel(), np.int64)
        super().__init__(fires=zeros, hits=zeros, feature_fires=zeros, samples=count())

    @property
    def num_sae_latents(self) -> int:
        """M."""
        return self.best_matches.numel()

    @property
    def tp(self) -> torch.Tensor:
        """Samples in which a latent and its feature fire, float32 [M]; as the next, a copy."""
        return _tensor(self.whole()["hits"])

    @property
    def fp(self) -> torch.Tensor:
        """Those in which only the latent does."""
        sums = self.whole()
        return _tensor(sums["fires"] - sums["hits"])

    @property
    def fn(self) -> torch.Tensor:
        """Those in which only the feature does."""
        sums = self.whole()
        return _tensor(sums["feature_fires"] - sums["hits"])

    @property
    def tn(self) -> torch.Tensor:
        """Those in which neither does."""
        sums = self.whole()
        either = sums["fires"] + sums["feature_fires"] - sums["hits"]
        return _tensor(sums["samples"] - either)

    def add_batch(self, sae_latents: Activations, gt_feature_acts: Activations) -> None:
        """Add latents [B, M] and features [B, N]: dense, sparse COO or SparseActivations."""
        latents = entries_of("sae_latents", sae_latents, self.num_sae_latents)
        features = positive(entries_of("gt_feature_acts", gt_feature_acts, self.num_features))
        if latents.batch_size != features.batch_size:
            raise ValueError(
                f"gt_feature_acts must have {latents.batch_size} samples as sae_latents, "
                f"got {features.batch_size}"
            )
        self.add_entries(latents, features, Groups([latents.batch_size]))

    def add_entries(
        self, latents: SparseActivations, features: SparseActivations, groups: Groups
    ) -> None:
        """Add by group the entries of latents that are not zero, of features those above it."""
        shape = len(groups.sizes), self.num_sae_latents
        columns = torch.arange(shape[0], device="cpu")[:, None] * self.num_features
        # Past the engine's checks of what it made itself: they take as long as a toy's counts.
        counts = engine.backend_for(latents.device).count_fires(
            groups.apart(latents),
            groups.apart(features).to(latents.device),
            (self.best_matches + columns).flatten().to(latents.device),
        )
        each = {name: found.view(shape).numpy() for name, found in counts._asdict().items()}
        self._add(groups, samples=groups.sizes, **each)

    def per_latent(self) -> dict[str, torch.Tensor]:
        """float64 [M] each: the four metrics, and ``rate``, the share of samples it fires in."""
        columns = self.columns(self.whole())
        return {name: torch.from_numpy(column) for name, column in columns.items()}

    @staticmethod
    def columns(sums: Sums) -> dict[str, Array]:
        """The same of any sums, [..., M] each."""
        fires, hits, feature_fires = (sums[name] for name in ("fires", "hits", "feature_fires"))
        samples = sums["samples"][..., None]
        precision, recall = _ratio(hits, fires), _ratio(hits, feature_fires)
        agreed = samples - fires - feature_fires + 2 * hits
        return {
            "precision": precision,
            "recall": recall,
            "f1_score": _ratio(2 * precision * recall, precision + recall),
            "accuracy": agreed / np.maximum(1, samples),
            "rate": fires / np.maximum(1, samples),
        }

    def compute(self) -> ClassificationMetrics:
        """Means over the latents, of the samples so far; zeros where there are no latents."""
        found = means(self.columns(self.whole()))
        return ClassificationMetrics(**{name: float(value) for name, value in found.items()})


def compute_classification_metrics(
    sae_latents: Activations,
    gt_feature_acts: Activations,
    sae_decoder: torch.Tensor,
    gt_features: torch.Tensor,
) -> ClassificationMetrics:
    """The metrics of one batch; see :class:`ClassificationMetricsCalculator`.

    Args:
        sae_latents: [B, M].
        gt_feature_acts: [B, N].
        sae_decoder: [M, D].
        gt_features: [N, D].

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> latents = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # the first latent fires too often
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> decoder = vectors = torch.eye(2)
        >>> synthetic.compute_classification_metrics(latents, features, decoder, vectors).precision
        0.75
    """
    calculator = ClassificationMetricsCalculator(sae_decoder, gt_features)
    calculator.add_batch(sae_latents, gt_feature_acts)
    return calculator.compute()


def means(columns: dict[str, Array]) -> dict[str, Array]:
    """The metrics [...], means over the latents of columns [..., M], in their order."""
    return {
        name: columns[name].sum(axis=-1) / max(1, columns[name].shape[-1])
        for name in ("precision", "recall", "f1_score", "accuracy")
    }


def _ratio(part: Array, whole: Array) -> Array:
    """part / whole, 0 where whole is 0; part is then 0 too."""
    return part / np.where(whole > 0, whole, 1)


def _tensor(numbers: Array) -> torch.Tensor:
    return torch.from_numpy(numbers).float()
