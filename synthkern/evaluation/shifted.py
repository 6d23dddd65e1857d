"""An SAE out of its training's distribution."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern.evaluation.classification import ClassificationMetrics


@dataclass(frozen=True)
class ShiftedFigures:
    """An SAE measured on the shifted twin of its world; see :class:`synthkern.ShiftConfig`.

    Attributes: as those of :class:`~synthkern.SyntheticDataEvalResult` of the same names.
    What depends on no sample (MCC, uniqueness, coverage) is the same for both.

    Example:
        >>> import synthkern as synthetic
        >>> shift = synthetic.ShiftConfig(rate_factor=2.0)
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(4, 8, shift=shift, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae,
        ...     model.feature_dict,
        ...     model.activation_generator,
        ...     10_000,
        ...     seed=0,
        ...     shifted_generator=model.shifted().activation_generator,
        ... )
        >>> round(result.shifted.true_l0 / result.true_l0, 1)
        2.0
    """

    true_l0: float
    sae_l0: float
    dead_latents: int
    shrinkage: float
    explained_variance: float
    classification: ClassificationMetrics
    f1_all_features: float
