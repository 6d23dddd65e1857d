"""Pictures, drawn with plotly: the extra ``plots``, and for PNG files the extra ``images``."""

from synthkern.plots.precision_recall import plot_precision_recall
from synthkern.plots.similarity import plot_sae_feature_similarity
from synthkern.plots.training_curves import plot_training_curves
from synthkern.plots.tuning_curves import plot_tuning_curves

__all__ = [
    "plot_precision_recall",
    "plot_sae_feature_similarity",
    "plot_training_curves",
    "plot_tuning_curves",
]
