"""Pictures, drawn with plotly: the extra ``plots``, and for PNG files the extra ``images``."""

from synthkern.plots.precision_recall import plot_precision_recall
from synthkern.plots.similarity import plot_sae_feature_similarity

__all__ = ["plot_precision_recall", "plot_sae_feature_similarity"]
