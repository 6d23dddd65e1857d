"""What an evaluation gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import numpy.typing as npt

from synthkern.evaluation.absorption import Absorption
from synthkern.evaluation.by_feature import FrequencyBin
from synthkern.evaluation.classification import ClassificationMetrics
from synthkern.evaluation.held_out import HeldOut
from synthkern.evaluation.hierarchy_recovery import HierarchyRecovery
from synthkern.evaluation.manifolds import ManifoldPlaneRecovery, ManifoldTiling
from synthkern.evaluation.null_mcc import NullMCC
from synthkern.evaluation.probing import ProbeF1
from synthkern.evaluation.shifted import ShiftedFigures
from synthkern.evaluation.splitting import Splitting
from synthkern.evaluation.tree import built, leaves, plain
from synthkern.evaluation.views import MapRecovery, ViewRecovery

Column = npt.NDArray[np.float64]


@dataclass(eq=False)
class PerLatent:
    """Each latent for itself: arrays [M], float64 but for the first.

    Equal to another where all numbers are; NaN equals NaN.

    Attributes:
        matched_feature: int64, the feature that its decoder row has the greatest |cosine| with.
        cosine: that cosine, with its sign.
        precision: share of its firings in which the feature fires; 0 where it never fires.
        recall: share of the feature's firings in which it fires; 0 where that never fires.
        f1_score: harmonic mean of the two; 0 where both are.
        rate: share of the samples in which it fires.
        standard_errors: of the last four, by name, made as those of the means.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=8, hidden_dim=16, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> features, generator = model.feature_dict, model.activation_generator
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=8))
        >>> synthetic.init_sae_to_match_feature_dict(sae, features)
        >>> result = synthetic.eval_sae_on_synthetic_data(sae, features, generator, 1000, seed=0)
        >>> result.per_latent.matched_feature
        array([0, 1, 2, 3, 4, 5, 6, 7])
    """

    matched_feature: npt.NDArray[np.int64]
    cosine: Column
    precision: Column
    recall: Column
    f1_score: Column
    rate: Column
    standard_errors: dict[str, Column] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PerLatent):
            return NotImplemented
        return _same(vars(self), vars(other))


@dataclass(eq=False)
class SyntheticDataEvalResult:
    """An SAE measured against the features that made its inputs.

    The fields after :attr:`per_latent` are keywords, and None where the world cannot have them or
    the evaluation was not asked for them. Equal to another where all numbers are, those of single
    latents too; NaN equals NaN. What is not among its dataclass fields, :attr:`per_latent`, is left
    out by ``dataclasses.asdict``.

    Attributes:
        true_l0: mean number of features that fire in a sample.
        sae_l0: mean number of latents that are not zero.
        dead_latents: number of latents that never fired.
        shrinkage: mean norm of a reconstruction in norms of its input.
        explained_variance: share of the inputs' variance that the reconstructions account for.
        mcc: mean |cosine| over the optimal one-to-one matching of decoder rows and features.
        uniqueness: number of different best-matching features over the number of latents.
        classification: latents as detectors of their best-matching features.
        standard_errors: of every figure that samples decide, by its name in :meth:`to_log_dict`:
            how much it would move from one draw of as many samples to another. The samples are
            cut into 32 successive groups (fewer where there are fewer samples), and the figure is
            computed again without each of them (delete-a-group jackknife). NaN below 2 samples.
            ``mcc`` and ``uniqueness`` depend on no sample and have none.
        per_latent: each latent for itself.
        f1_all_features: mean over all true features of how well some latent detects them.
        coverage: from a threshold to the share of the features that some decoder row has at least
            that |cosine| with.
        by_frequency: F1, coverage and MCC of the features in bins by their rate: five with as many
            features each, the rarest first, and at last the rarest quarter.
        absorption: how often children's latents stand in for their parents'.
        splitting: several latents for a feature, and several features for a latent.
        hedging: how much of the directions of correlated features a latent mixes in.
        hierarchy_recovery: the world's tree, as the latents' co-activation tells it.
        probe_f1: of probes that find true features in the latents.
        null_mcc: MCC and uniqueness of random dictionaries, and the MCC above chance.
        manifold_plane_recovery: how much of the planes of features that are circles latents hold.
        manifold_tiling: how many latents tile such a circle, and how.
        held_out: on the world's shifted twin, how well pairs are detected that the world keeps
            apart.
        shifted: figures on that twin; see :func:`synthkern.shifted_rows` for both side by side.
        views: the views of a world in a crosscoder's latents.
        map_recovery: the edges of a world's map in a transcoder's.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=8))
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, num_samples=1000, seed=0
        ... )
        >>> list(result.to_dict())[:5]
        ['true_l0', 'sae_l0', 'dead_latents', 'shrinkage', 'explained_variance']
    """

    true_l0: float
    sae_l0: float
    dead_latents: int
    shrinkage: float
    explained_variance: float
    mcc: float
    uniqueness: float
    classification: ClassificationMetrics
    standard_errors: dict[str, float] = field(default_factory=dict)
    if TYPE_CHECKING:
        per_latent: PerLatent | None = None
    else:
        # No dataclass field, so that what is made of the fields are numbers, as in SAELens.
        per_latent: InitVar[PerLatent | None] = None

        def __post_init__(self, per_latent: PerLatent | None) -> None:
            self.per_latent = per_latent

    f1_all_features: float | None = field(default=None, kw_only=True)
    coverage: dict[float, float] | None = field(default=None, kw_only=True)
    by_frequency: list[FrequencyBin] | None = field(default=None, kw_only=True)
    absorption: Absorption | None = field(default=None, kw_only=True)
    splitting: Splitting | None = field(default=None, kw_only=True)
    hedging: float | None = field(default=None, kw_only=True)
    hierarchy_recovery: HierarchyRecovery | None = field(default=None, kw_only=True)
    probe_f1: ProbeF1 | None = field(default=None, kw_only=True)
    null_mcc: NullMCC | None = field(default=None, kw_only=True)
    manifold_plane_recovery: ManifoldPlaneRecovery | None = field(default=None, kw_only=True)
    manifold_tiling: ManifoldTiling | None = field(default=None, kw_only=True)
    held_out: HeldOut | None = field(default=None, kw_only=True)
    shifted: ShiftedFigures | None = field(default=None, kw_only=True)
    views: ViewRecovery | None = field(default=None, kw_only=True)
    map_recovery: MapRecovery | None = field(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SyntheticDataEvalResult):
            return NotImplemented
        return _same(plain(vars(self)), plain(vars(other)))

    def to_log_dict(self, prefix: str = "") -> dict[str, float | int]:
        """All figures flat, for logging: ``<prefix>mcc``, ``<prefix>classification/recall``, ...,
        ``<prefix>standard_errors/sae_l0``, ...; not those of single latents.
        """
        return {
            f"{prefix}{path}": number
            for name, value in self.to_dict().items()
            for path, number in leaves(name, value)
        }

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON types; not those of single latents, nor what is None."""
        return {
            name: plain(value)
            for name, value in vars(self).items()
            if name != "per_latent" and value is not None
        }


def metric_kinds() -> dict[str, Any]:
    """The types of the fields that metrics give and that may be None, by name."""
    hints = get_type_hints(SyntheticDataEvalResult)
    return {f.name: hints[f.name] for f in fields(SyntheticDataEvalResult) if f.kw_only}


def built_metrics(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of plain figures by name the fields that metrics give, as they are in a result.

    Raises:
        ValueError: for what is no such figure.
    """
    return {
        name: built(name, kind, data[name]) for name, kind in metric_kinds().items() if name in data
    }


def _same(a: Any, b: Any) -> bool:
    """Whether figures are equal, one by one."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)
