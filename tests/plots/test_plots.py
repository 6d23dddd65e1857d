"""Figures as plotly holds them: what is drawn, what is written, what is refused."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packages import hide_plotly, pretend, pretend_kaleido
from stub_sae import StubSAE, random_sae

import synthkern as synthetic

D = 12


def dictionary(num_features: int) -> synthetic.FeatureDictionary:
    return synthetic.FeatureDictionary(num_features, D, initializer=None, seed=0)


def draw(sae: Any, num_features: int, **arguments: Any) -> Any:
    return synthetic.plot_sae_feature_similarity(
        sae, dictionary(num_features), **{"show_plot": False, **arguments}
    )


@pytest.mark.parametrize(("m", "n"), [(0, 5), (0, 1), (1, 1), (5, 1), (1, 5), (7, 9)])
@pytest.mark.parametrize("decoder_only", [False, True])
def test_cells_are_cosines(m: int, n: int, decoder_only: bool) -> None:
    sae, vectors = random_sae(m, D), dictionary(n).feature_vectors.detach()
    figure = draw(sae, n, decoder_only=decoder_only)
    weights = [sae.W_dec.detach()] if decoder_only else [sae.W_enc.detach().T, sae.W_dec.detach()]
    assert len(figure.data) == len(weights)
    for heatmap, rows in zip(figure.data, weights, strict=True):
        expected = synthetic.cosine_similarities(rows, vectors).numpy()
        assert np.shape(heatmap.z) == (m, n)
        # Rounded to two decimals.
        np.testing.assert_allclose(np.asarray(heatmap.z).reshape(m, n), expected, atol=0.00501)
        assert (heatmap.zmin, heatmap.zmax) == (-1, 1)
    assert "Cosine similarity with true features" in figure.layout.title.text
    assert ("no latents" in figure.layout.title.text) == (m == 0)


def test_rows_in_order() -> None:
    vectors = dictionary(9).feature_vectors.detach()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    sae = StubSAE(-vectors[order].T, vectors[order])
    for reorder in (True, order.argsort()):
        encoder, decoder = draw(sae, 9, reorder_features=reorder).data
        assert np.diagonal(decoder.z).tolist() == pytest.approx([1.0] * 9)
        assert np.diagonal(encoder.z).tolist() == pytest.approx([-1.0] * 9)
    as_they_come = draw(sae, 9).data[1]
    assert (np.diagonal(as_they_come.z) == 1.0).sum() == int((order == torch.arange(9)).sum())


def test_a_cell_for_many_shows_the_strongest_of_them() -> None:
    m, n = 1100, 701
    sae, vectors = random_sae(m, D), dictionary(n).feature_vectors.detach()
    figure = draw(sae, n, width=800, height=400)
    cosines = synthetic.cosine_similarities(sae.W_dec.detach(), vectors).numpy()
    cells = np.asarray(figure.data[1].z)
    # 220 pixels for 1,100 rows, 282 for 701 columns.
    assert cells.shape == (220, 234)
    for row, column in ((0, 0), (103, 200), (219, 233)):
        part = cosines[5 * row : 5 * row + 5, 3 * column : 3 * column + 3].flatten()
        assert cells[row, column] == pytest.approx(part[np.abs(part).argmax()], abs=0.00501)
    assert figure.data[1].y[:2].tolist() == [0, 5]
    assert figure.data[1].x[-1] == 699
    assert "5 x 3 (latents x features)" in figure.layout.title.text
    every = draw(sae, n, width=2000, height=1300).data[1]
    assert np.shape(every.z) == (550, 701)


def test_many_are_drawn_in_little(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plot.html"
    figure = draw(random_sae(5000, D), 5000, save_path=path, width=100_000, height=100_000)
    # 1,024 cells a side at most.
    assert np.shape(figure.data[0].z) == (1000, 1000)
    # Two panels of 10**6 cells: older plotly writes each as decimals, the newer in base 64.
    assert path.stat().st_size < 2 * 22e6 + 6e6


def test_looks() -> None:
    figure = draw(
        random_sae(4, D), 6, title="mine", show_values=True, height=300, width=500, dtick=2
    )
    assert figure.layout.title.text == "mine"
    assert (figure.layout.height, figure.layout.width) == (300, 500)
    assert figure.data[0].texttemplate == "%{z:.2f}"
    assert figure.layout.xaxis.dtick == figure.layout.yaxis2.dtick == 2
    assert draw(random_sae(4, D), 6).data[0].texttemplate is None
    assert draw(random_sae(4, D), 101).layout.xaxis.dtick is None
    assert draw(random_sae(4, D), 6, dtick=None).layout.xaxis.dtick is None


def test_show_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    graph = importlib.import_module("plotly.graph_objects")
    monkeypatch.setattr(graph.Figure, "show", lambda figure: shown.append(figure))
    figure = synthetic.plot_sae_feature_similarity(random_sae(3, D), dictionary(4))
    assert shown[0] is figure
    draw(random_sae(3, D), 4)
    assert len(shown) == 1


def test_an_image_is_kaleidos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    pretend_kaleido(monkeypatch, lambda _, path, format, scale: written.append((format, scale)))
    draw(random_sae(3, D), 4, save_path=str(tmp_path / "a.PNG"), scale=2.0)
    assert written == [("png", 2.0)]
    assert (tmp_path / "a.PNG").is_file()
    pretend(monkeypatch, "kaleido", there=False)
    with pytest.raises(ImportError, match=r"'images'.*\.html"):
        draw(random_sae(3, D), 4, save_path=tmp_path / "a.png")


def test_without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_plotly(monkeypatch)
    with pytest.raises(ImportError, match=r"synthkern\[plots\]"):
        draw(random_sae(3, D), 4)
    with pytest.raises(ImportError, match=r"synthkern\[plots\]"):
        synthetic.plot_precision_recall(evaluation(5, 10), show_plot=False)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"save_path": "a.gif"}, ValueError, r"save_path.*\.png.*a\.gif"),
        ({"save_path": 3}, TypeError, "save_path.*3"),
        ({"height": 0}, ValueError, "height.*0"),
        ({"width": 2.5}, TypeError, "width.*2.5"),
        ({"scale": 0}, ValueError, "scale"),
        ({"dtick": 0}, ValueError, "dtick.*0"),
        ({"title": 3}, TypeError, "title.*3"),
        ({"show_plot": 1}, TypeError, "show_plot.*1"),
        ({"decoder_only": None}, TypeError, "decoder_only"),
        ({"reorder_features": "first"}, TypeError, "reorder_features.*first"),
        ({"reorder_features": torch.tensor([0, 1])}, ValueError, "at least 3 entries, got 2"),
        ({"reorder_features": torch.tensor([0, 1, 3])}, ValueError, r"\[0, 3\), got 3 at \[2\]"),
        ({"sae": object()}, TypeError, "sae must have a tensor W_dec"),
        ({"feature_dict": 1}, TypeError, "feature_dict must have a tensor feature_vectors"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    defaults = {"sae": random_sae(3, D), "feature_dict": dictionary(4), "show_plot": False}
    with pytest.raises(error, match=words):
        synthetic.plot_sae_feature_similarity(**{**defaults, **arguments})


def evaluation(num_latents: int, samples: int) -> synthetic.SyntheticDataEvalResult:
    generator = synthetic.ActivationGenerator(20, 0.1)
    sae = random_sae(num_latents, D, threshold=0.9)
    return synthetic.eval_sae_on_synthetic_data(sae, dictionary(20), generator, samples, seed=0)


@pytest.mark.parametrize(("m", "samples"), [(0, 10), (1, 300), (6, 0), (40, 300), (2500, 300)])
def test_precision_and_recall(m: int, samples: int, tmp_path: Path) -> None:
    result = evaluation(m, samples)
    path = tmp_path / "pr.html"
    figure = synthetic.plot_precision_recall(result, save_path=path, show_plot=False)
    points, means = figure.data
    table = result.per_latent
    assert table is not None
    fires = table.rate > 0
    np.testing.assert_array_equal(points.x, table.recall[fires])
    np.testing.assert_array_equal(points.y, table.precision[fires])
    np.testing.assert_allclose(points.marker.color, np.log10(table.rate[fires]))
    assert means.x[0] == result.classification.recall
    assert means.y[0] == result.classification.precision
    assert f"{result.dead_latents:,} never fired" in figure.layout.title.text
    assert path.stat().st_size > 1000


def test_a_result_without_latents_is_refused() -> None:
    result = evaluation(3, 5)
    result.per_latent = None
    with pytest.raises(ValueError, match="result must have per_latent, got None"):
        synthetic.plot_precision_recall(result, show_plot=False)
    with pytest.raises(TypeError, match="result must be a SyntheticDataEvalResult"):
        synthetic.plot_precision_recall({}, show_plot=False)  # type: ignore[arg-type]
