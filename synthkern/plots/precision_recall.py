"""One evaluation, latent by latent: precision, recall and how often each fires."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthkern.evaluation.result import SyntheticDataEvalResult
from synthkern.plots.figure import check_arguments, finish, plotly
from synthkern.storage.paths import AnyPath

#: Latents above which points are drawn by the graphics card, where an HTML file is looked at.
_MANY = 2000


def plot_precision_recall(
    result: SyntheticDataEvalResult,
    title: str | None = None,
    height: int = 500,
    width: int = 700,
    save_path: AnyPath | None = None,
    show_plot: bool = True,
    scale: float = 1.0,
) -> Any:
    """Draw each latent at its recall and precision, coloured by how often it fires.

    Latents that never fired have no precision and are left out; the text above counts them, and
    names the L0 of SAE and features, the means with their standard errors, and MCC. The cross is
    at the means.

    Args:
        result: of :func:`eval_sae_on_synthetic_data`, with ``per_latent``.
        title: above the figure; "Latents as detectors of their features" where None.
        height: with the rest of the arguments, as :func:`plot_sae_feature_similarity` has them.

    Returns:
        the ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: where plotly, or for an image kaleido, is not installed; it names the extra.
        ValueError: for a value out of range, or a result without ``per_latent``.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> features, generator = model.feature_dict, model.activation_generator
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=8))
        >>> result = synthetic.eval_sae_on_synthetic_data(sae, features, generator, 1000, seed=0)
        >>> figure = synthetic.plot_precision_recall(result, show_plot=False)
        >>> figure.layout.xaxis.title.text, figure.layout.yaxis.title.text
        ('recall', 'precision')
    """
    graph = plotly("graph_objects")
    path = check_arguments(title, height, width, save_path, show_plot, scale)
    if not isinstance(result, SyntheticDataEvalResult):
        raise TypeError(f"result must be a SyntheticDataEvalResult, got {result!r}")
    latents = result.per_latent
    if latents is None:
        raise ValueError("result must have per_latent, got None")
    fires = np.flatnonzero(latents.rate)
    logarithm = np.log10(latents.rate[fires])
    points = graph.Scattergl if len(fires) > _MANY else graph.Scatter
    figure = graph.Figure(
        points(
            x=latents.recall[fires],
            y=latents.precision[fires],
            mode="markers",
            marker={
                "size": 5,
                "opacity": 0.7,
                "color": logarithm,
                "colorscale": "Viridis",
                "showscale": True,
                "colorbar": {"title": "rate", **_ticks(logarithm)},
            },
            customdata=np.stack(
                [fires, latents.matched_feature[fires], latents.rate[fires]], axis=1
            ),
            hovertemplate=(
                "latent %{customdata[0]}, feature %{customdata[1]}<br>recall %{x:.3f}<br>"
                "precision %{y:.3f}<br>rate %{customdata[2]:.3g}<extra></extra>"
            ),
            showlegend=False,
        )
    )
    means = result.classification
    figure.add_trace(
        graph.Scatter(
            x=[means.recall],
            y=[means.precision],
            mode="markers",
            marker={"symbol": "cross-thin", "size": 18, "line": {"width": 3, "color": "crimson"}},
            hovertemplate="means: recall %{x:.3f}, precision %{y:.3f}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(title_text="recall", range=[-0.03, 1.03])
    figure.update_yaxes(title_text="precision", range=[-0.03, 1.03])
    text = "Latents as detectors of their features" if title is None else title
    figure.update_layout(
        height=height,
        width=width,
        title_text=f"{text}<br><sup>{_summary(result)}</sup>",
        margin={"t": 110},
    )
    finish(figure, path, show_plot, scale)
    return figure


def _ticks(logarithm: Any) -> dict[str, Any]:
    """Whole powers of ten at the colours of logarithms, and what lies at the ends of few."""
    if not len(logarithm):
        return {}
    low, high = logarithm.min(), logarithm.max()
    values = [float(k) for k in range(int(np.ceil(low)), int(np.floor(high)) + 1)]
    if len(values) < 2:
        values = sorted({float(low), *values, float(high)})
    return {"tickvals": values, "ticktext": [f"{10**value:.2g}" for value in values]}


def _summary(result: SyntheticDataEvalResult) -> str:
    errors, means = result.standard_errors, result.classification
    lines = [
        [
            _with_error("L0", result.sae_l0, errors.get("sae_l0")),
            _with_error("features' L0", result.true_l0, errors.get("true_l0")),
            f"{result.dead_latents:,} never fired",
            f"MCC {result.mcc:.3f}",
        ],
        [
            _with_error(f"mean {name}", getattr(means, key), errors.get(f"classification/{key}"))
            for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1_score"))
        ],
    ]
    return "<br>".join(", ".join(parts) for parts in lines)


def _with_error(name: str, value: float, error: float | None) -> str:
    if error is None or not np.isfinite(error):
        return f"{name} {value:.3f}"
    return f"{name} {value:.3f} ± {error:.1g}"
