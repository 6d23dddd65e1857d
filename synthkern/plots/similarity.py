"""Cosines of latents with features, as heatmaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern._checks import as_bool, as_int
from synthkern.evaluation.matching import cosine_blocks
from synthkern.evaluation.ordering import as_ordering, find_best_feature_ordering
from synthkern.evaluation.sae_interface import weight
from synthkern.model.draw_hidden import feature_vectors_of
from synthkern.plots.figure import check_arguments, finish, plotly
from synthkern.storage.paths import AnyPath

#: Pixels that titles and axes take from the height, and the colours' bar from the width too.
_ABOVE_AND_BELOW, _BESIDE = 180, 172

#: Cells of a side that are drawn at least, and at most.
_FEWEST, _MOST = 64, 1024


@torch.no_grad()
def plot_sae_feature_similarity(
    sae: Any,
    feature_dict: Any,
    title: str | None = None,
    reorder_features: bool | torch.Tensor = False,
    decoder_only: bool = False,
    show_values: bool = False,
    height: int = 400,
    width: int = 800,
    save_path: AnyPath | None = None,
    show_plot: bool = True,
    dtick: int | None = 1,
    scale: float = 1.0,
) -> Any:
    """Draw the cosine similarities of an SAE's encoder and decoder with the feature vectors.

    Latents go up, features to the right; cosines are rounded to two decimals. Where there are
    more latents or features than pixels to draw them with (or than 1,024), each cell stands for
    several and shows, of their cosines, the one of the greatest absolute value, so that nothing
    strong is lost between pixels; the title says how many, and a larger figure shows more. Memory
    and the file stay bounded: the cosines are made some rows at a time.

    Args:
        sae: has ``W_dec`` [M, D], and ``W_enc`` [D, M] unless ``decoder_only``.
        feature_dict: the dictionary, D wide, of N features.
        title: above the figure; "Cosine similarity with true features" where None.
        reorder_features: True sorts the latents as :func:`find_best_feature_ordering` does; a
            tensor, array or list [M] of integers in [0, M) says which latent each row shows.
        decoder_only: whether the encoder is left out.
        show_values: whether cells have their numbers written in.
        height: of the figure, in pixels, at least 10.
        width: of the figure, in pixels, at least 10.
        save_path: a file to write, with the folders above it: .html needs no further package;
            .png, .svg, .pdf, .jpeg and .webp need the extra ``images``, and that a Chrome.
        show_plot: whether to show the figure, in a notebook or a browser.
        dtick: every which row and column has its number at the axes; None leaves that to plotly,
            which is also what happens where it would be more than 100 numbers.
        scale: of an image file's pixels, above 0.

    Returns:
        the ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: where plotly, or for an image kaleido, is not installed; it names the extra.
        ValueError: for a value out of range, a wrong shape or another ending of the file.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> features = synthetic.FeatureDictionary(8, 4, initializer=None, seed=0)
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=4, d_sae=6))
        >>> figure = synthetic.plot_sae_feature_similarity(sae, features, show_plot=False)
        >>> figure.data[0].z.shape  # the encoder's cosines: latents, features
        (6, 8)
    """
    graph = plotly("graph_objects")
    path = check_arguments(title, height, width, save_path, show_plot, scale)
    as_bool("decoder_only", decoder_only)
    as_bool("show_values", show_values)
    if dtick is not None:
        as_int("dtick", dtick, low=1)
    vectors = feature_vectors_of("feature_dict", feature_dict)
    decoder = weight(sae, "W_dec", vectors.shape[1]).detach()
    rows = {"SAE decoder": decoder}
    if not decoder_only:
        encoder = weight(sae, "W_enc", vectors.shape[1], columns=True).detach().T
        if encoder.shape != decoder.shape:
            raise ValueError(
                f"sae.W_enc must have shape {list(decoder.T.shape)} as sae.W_dec transposed, "
                f"got {list(encoder.T.shape)}"
            )
        rows = {"SAE encoder": encoder, **rows}
    ordering = _ordering(reorder_features, decoder, vectors)

    figure = plotly("subplots").make_subplots(
        rows=1, cols=len(rows), subplot_titles=None if decoder_only else tuple(rows)
    )
    tall = -(-len(decoder) // _cell_count(scale * (height - _ABOVE_AND_BELOW)))
    # Two panels have a gap between them of a tenth of their width.
    pixels = scale * (width - _BESIDE) * (1 if decoder_only else 0.45)
    wide = -(-len(vectors) // _cell_count(pixels))
    for place, weights in enumerate(rows.values(), start=1):
        ordered = weights if ordering is None else weights[ordering]
        heatmap = graph.Heatmap(
            z=_cells(ordered, vectors, max(1, tall), wide),
            x=np.arange(0, len(vectors), wide),
            y=np.arange(0, len(decoder), max(1, tall)),
            zmin=-1,
            zmax=1,
            colorscale="RdBu",
            showscale=place == len(rows),
            colorbar={"title": "cosine", "tickvals": [-1, 0, 1]},
            hovertemplate="feature %{x}<br>latent %{y}<br>cosine %{z:.2f}<extra></extra>",
            texttemplate="%{z:.2f}" if show_values else None,
        )
        figure.add_trace(heatmap, row=1, col=place)
        for update, name, size in (
            (figure.update_xaxes, "True feature", len(vectors)),
            (figure.update_yaxes, "SAE latent", len(decoder)),
        ):
            fits = dtick is not None and size <= 100 * dtick
            update(title_text=name, dtick=dtick if fits else None, row=1, col=place)
    note = ""
    if not len(decoder):
        note = "<br><sup>the SAE has no latents</sup>"
    elif max(tall, wide) > 1:
        cells = f"{tall} x {wide} (latents x features)"
        note = f"<br><sup>a cell is the cosine furthest from 0 of {cells}</sup>"
    text = "Cosine similarity with true features" if title is None else title
    figure.update_layout(height=height, width=width, title_text=text + note)
    finish(figure, path, show_plot, scale)
    return figure


def _ordering(value: Any, decoder: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor | None:
    """Which latent each row shows; as they come where None."""
    if isinstance(value, torch.Tensor | np.ndarray | list | tuple):
        size = len(decoder)
        return as_ordering("reorder_features", value, size, at_least=size).to(decoder.device)
    if as_bool("reorder_features", value):
        return find_best_feature_ordering(decoder, vectors)
    return None


def _cell_count(pixels: float) -> int:
    """How many cells a side has that is so long."""
    return min(_MOST, max(_FEWEST, int(pixels)))


def _cells(
    weights: torch.Tensor, vectors: torch.Tensor, tall: int, wide: int
) -> npt.NDArray[np.float32]:
    """Cosines [rows, columns] to draw: of ``tall`` rows and ``wide`` columns the strongest."""
    cells = np.zeros((-(-len(weights) // tall), -(-len(vectors) // wide)), dtype=np.float32)
    for rows, cosines in cosine_blocks(weights, vectors, tall * max(1, 512 // tall)):
        block = _strongest(_strongest(cosines, wide).T, tall).T
        first = rows.start // tall
        cells[first : first + len(block)] = block.cpu().numpy()
    # Adding 0 turns what is rounded to -0 into 0.
    return cells.round(2) + 0


def _strongest(cosines: torch.Tensor, width: int) -> torch.Tensor:
    """Of every ``width`` successive columns the number that is furthest from 0."""
    short = -cosines.shape[1] % width
    groups = torch.nn.functional.pad(cosines, (0, short)).unflatten(1, (-1, width))
    return groups.gather(2, groups.abs().argmax(dim=2, keepdim=True)).squeeze(2)
