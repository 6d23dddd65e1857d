"""The course of a training: loss, sparsity, what is explained, what is recovered."""

from __future__ import annotations

from typing import Any

from synthkern.plots.figure import check_arguments, finish, plotly
from synthkern.storage.paths import AnyPath
from synthkern.training.history import TrainingHistory

#: Panels in reading order: what each shows, the figures in it, and whether its axis is a logarithm
#: where they go over more than a power of ten.
_PANELS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("loss", ("loss", "losses/*"), True),
    ("active latents (L0)", ("l0", "eval/sae_l0"), True),
    ("explained variance", ("explained_variance", "eval/explained_variance"), False),
    ("recovered features", ("eval/mcc", "eval/uniqueness", "eval/classification/f1_score"), False),
    ("dead latents", ("dead_latents", "eval/dead_latents"), False),
    ("learning rate", ("lr",), False),
    ("sparsity coefficient", ("coefficients/*",), True),
)

#: Rows above which a curve of training steps has no markers.
_FEW = 30


def plot_training_curves(
    history: TrainingHistory,
    title: str | None = None,
    height: int = 800,
    width: int = 1000,
    save_path: AnyPath | None = None,
    show_plot: bool = True,
    scale: float = 1.0,
) -> Any:
    """Draw the curves of a training against the samples trained on.

    A panel each for loss, L0, explained variance, the figures of evaluations, dead latents,
    learning rate and sparsity coefficient; what the history lacks is left out. Points of
    evaluations are diamonds.

    Args:
        history: of :func:`train_sae`, or loaded.
        title: above the figure; "Training curves" where None.
        height: with the rest of the arguments, as :func:`plot_sae_feature_similarity` has them.

    Returns:
        the ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: where plotly, or for an image kaleido, is not installed; it names the extra.
        ValueError: for a value out of range, or a history without rows.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> history = synthetic.TrainingHistory()
        >>> row = history.add(step=0, samples=0, figures={"loss": 4.0, "l0": 2.0})
        >>> row = history.add(step=10, samples=160, figures={"loss": 1.0, "l0": 2.0})
        >>> figure = synthetic.plot_training_curves(history, show_plot=False)
        >>> [curve.name for curve in figure.data]
        ['loss', 'l0']
    """
    graph, subplots = plotly("graph_objects"), plotly("subplots")
    path = check_arguments(title, height, width, save_path, show_plot, scale)
    if not isinstance(history, TrainingHistory):
        raise TypeError(f"history must be a TrainingHistory, got {history!r}")
    panels = [(about, _found(history, wanted), log) for about, wanted, log in _PANELS]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise ValueError("history must have a row, got none")
    rows = -(-len(panels) // 2)
    figure = subplots.make_subplots(
        rows=rows,
        cols=2,
        subplot_titles=[about for about, _, _ in panels],
        vertical_spacing=0.3 / rows,
        horizontal_spacing=0.33,
    )
    for index, (_, names, logarithmic) in enumerate(panels):
        place = {"row": index // 2 + 1, "col": index % 2 + 1}
        for name in names:
            figure.add_trace(_curve(graph, history, name, f"legend{index + 1}"), **place)
        figure.update_xaxes(title_text="samples", title_standoff=2, rangemode="tozero", **place)
        values = [value for name in names for value in history.curve(name)[1]]
        if logarithmic and 0 < 10 * min(values) < max(values):
            figure.update_yaxes(type="log", **place)
        else:
            figure.update_yaxes(rangemode="tozero", **place)
        _put_legend(figure, index)
    text = "Training curves" if title is None else title
    figure.update_layout(height=height, width=width, title_text=text, margin={"r": 190})
    finish(figure, path, show_plot, scale)
    return figure


def _found(history: TrainingHistory, wanted: tuple[str, ...]) -> list[str]:
    """The figures of a panel that the history has."""
    names: list[str] = []
    for pattern in wanted:
        start = pattern.removesuffix("*")
        names += [
            name
            for name in history.names
            if name == pattern or (start != pattern and name.startswith(start))
        ]
    return names


def _curve(graph: Any, history: TrainingHistory, name: str, legend: str) -> Any:
    samples, values = history.curve(name)
    evaluated = name.startswith("eval/")
    marks = evaluated or len(samples) <= _FEW
    return graph.Scatter(
        x=samples,
        y=values,
        name=name.rpartition("/")[2] + (", evaluated" if evaluated else ""),
        mode="lines+markers" if marks else "lines",
        marker={"symbol": "diamond" if evaluated else "circle", "size": 6},
        legend=legend,
    )


def _put_legend(figure: Any, index: int) -> None:
    """Each panel's legend to the right of it."""
    number = "" if index == 0 else str(index + 1)
    across, up = figure.layout[f"xaxis{number}"].domain, figure.layout[f"yaxis{number}"].domain
    figure.update_layout(
        {
            f"legend{index + 1}": {
                "x": across[1] + 0.01,
                "y": up[1],
                "xanchor": "left",
                "yanchor": "top",
                "bgcolor": "rgba(0,0,0,0)",
                "font": {"size": 10},
            }
        }
    )
