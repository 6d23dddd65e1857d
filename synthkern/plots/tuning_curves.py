"""Latents along a feature that is a circle."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthkern.evaluation.tuning import TuningCurves
from synthkern.plots.figure import check_arguments, finish, plotly
from synthkern.storage.paths import AnyPath


def plot_tuning_curves(
    curves: TuningCurves,
    title: str | None = None,
    height: int = 450,
    width: int = 800,
    save_path: AnyPath | None = None,
    show_plot: bool = True,
    scale: float = 1.0,
) -> Any:
    """Draw the tuning curves of a circle's latents: mean activation against the phase.

    A tuned latent's line has the colour of its preferred phase, and a marker at its greatest; the
    others are grey. Lines go on round the circle beyond the ends of the axis.

    Args:
        curves: of :func:`manifold_tuning_curves`.
        title: above the figure; the manifold and its latents where None.
        height: with the rest of the arguments, as :func:`plot_sae_feature_similarity` has them.

    Returns:
        the ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: where plotly, or for an image kaleido, is not installed; it names the extra.
        ValueError: for a value out of range.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> circles = synthetic.ManifoldConfig(leaders=[0])
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(4, 8, manifolds=circles, bias=False, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> curves = synthetic.manifold_tuning_curves(
        ...     sae, model.feature_dict, model.activation_generator, 0, num_latents=2, seed=0
        ... )
        >>> figure = synthetic.plot_tuning_curves(curves, show_plot=False)
        >>> sorted(line.name for line in figure.data)
        ['latent 0', 'latent 1']
    """
    graph = plotly("graph_objects")
    path = check_arguments(title, height, width, save_path, show_plot, scale)
    if not isinstance(curves, TuningCurves):
        raise TypeError(f"curves must be TuningCurves, got {curves!r}")
    figure = graph.Figure()
    degrees = _around(np.degrees(curves.phases), 360)
    for latent, curve, preferred, share, tuned in zip(
        curves.latents, curves.curves, curves.preferred, curves.width, curves.tuned, strict=True
    ):
        colour = f"hsl({np.degrees(preferred):.0f}, 75%, 45%)" if tuned else "lightgrey"
        figure.add_trace(
            graph.Scatter(
                x=degrees,
                y=_around(curve),
                mode="lines+markers" if tuned else "lines",
                name=f"latent {latent}",
                line={"color": colour, "width": 2 if tuned else 1},
                marker={"size": _sizes(curve)},
                hovertemplate=(
                    f"latent {latent}, prefers {np.degrees(preferred):.0f}°, "
                    f"{share:.0%} of the circle<br>%{{x:.0f}}°: %{{y:.3g}}<extra></extra>"
                ),
            )
        )
    figure.update_xaxes(title_text="phase (degrees)", range=[0, 360], dtick=45)
    figure.update_yaxes(title_text="mean activation", rangemode="tozero")
    text = f"Latents along the circle of feature {curves.leader}" if title is None else title
    if curves.circle and title is None:
        text += f", circle {curves.circle}"
    figure.update_layout(
        height=height,
        width=width,
        title_text=f"{text}<br><sup>{_summary(curves)}</sup>",
        showlegend=True,
    )
    finish(figure, path, show_plot, scale)
    return figure


def _around(bins: Any, turn: float = 0) -> Any:
    """Numbers of the bins, with the last before the first and the first after the last."""
    return np.concatenate([bins[-1:] - turn, bins, bins[:1] + turn])


def _sizes(curve: Any) -> list[int]:
    """A marker at the greatest alone, of a curve with a bin more at either end."""
    greatest = int(np.argmax(curve)) + 1
    return [9 if place == greatest else 0 for place in range(len(curve) + 2)]


def _summary(curves: TuningCurves) -> str:
    tuned = curves.tuned
    covered = np.zeros(len(curves.phases), np.bool_)
    for curve in curves.curves[tuned]:
        covered |= curve >= curve.max() / 2
    width = f", a width of {curves.width[tuned].mean():.0%} on average" if tuned.any() else ""
    return (
        f"{int(tuned.sum())} of {len(tuned)} latents have a preferred phase{width}; together they "
        f"cover {covered.mean():.0%} of the circle ({int(curves.samples.sum()):,} samples)"
    )
