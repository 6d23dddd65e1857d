"""A report's figures: that what is drawn is what was measured, on the page and in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import WORLD, fill, outcome
from packages import pretend_kaleido
from report_pages import Page

from synthkern.suite.database import LATENT_COLUMNS, Run, RunDatabase
from synthkern.suite.report import page, read_report_data, write_images
from synthkern.suite.report.contents import in_words
from synthkern.suite.report.figure import Figure, Panel
from synthkern.suite.report.figures import figures
from synthkern.suite.report.images import drawn
from synthkern.suite.report.tables import run_table
from synthkern.suite.summary import TABLE_METRICS, summarize_directory
from synthkern.training import TrainingHistory


def figure_of(directory: Path, kind: str, l0: float | None = None, world: str = WORLD) -> Figure:
    """The one figure of a kind and a place."""
    (found,) = (
        figure
        for figure in figures(read_report_data(directory))
        if (figure.kind.name, figure.world, figure.l0) == (kind, world, l0)
    )
    return found


def panel_of(directory: Path, kind: str, l0: float | None = None) -> Panel:
    """The one panel of such a figure."""
    (panel,) = figure_of(directory, kind, l0).panels
    return panel


def finish(database: RunDatabase, run: Run, **changes: Any) -> None:
    database.finish(run.key, outcome(**{"metrics": run.metrics, **changes}))


def test_there_is_a_figure_of_each_kind_for_each_place(tmp_path: Path) -> None:
    contents = read_report_data(fill(tmp_path, worlds=("a", "b"), l0s=(6.0, None)).path.parent)
    places = [(each.kind.name, each.world, each.l0) for each in figures(contents)]
    assert places == [
        *(("metrics", world, None) for world in "ab"),
        *(("worlds", "", l0) for l0 in (6.0, None)),
        *(("curves", world, l0) for world in "ab" for l0 in (6.0, None)),
        *(("precision-recall", world, l0) for world in "ab" for l0 in (6.0, None)),
        *(("throughput", world, None) for world in "ab"),
    ]


def test_metrics_from_world_to_world_are_the_means_of_each_with_their_deviations(
    tmp_path: Path,
) -> None:
    database = fill(tmp_path, worlds=("a", "b"), l0s=(6.0, 10.0))
    groups = {(group.world, group.l0): group for group in summarize_directory(database)}
    figure = figure_of(tmp_path, "worlds", 10.0, "")
    assert [panel.title for panel in figure.panels] == list(TABLE_METRICS.values())
    for panel, metric in zip(figure.panels, TABLE_METRICS, strict=True):
        assert panel.x["categoryarray"] == ["a", "b"]
        for trace in panel.traces:
            own = [groups[world, 10.0].saes[trace["name"]][metric] for world in "ab"]
            assert trace["x"] == ["a", "b"]
            assert trace["y"] == pytest.approx([each.mean for each in own], rel=1e-4)
            assert trace["error_y"]["array"] == pytest.approx(
                [each.std for each in own], rel=0.05, abs=1e-12
            )


def test_the_page_shows_metrics_from_world_to_world_at_each_of_a_suites_worlds(
    tmp_path: Path,
) -> None:
    fill(tmp_path, worlds=("a", "b"), l0s=(6.0,))
    shown = Page(page(read_report_data(tmp_path)))
    kinds = [[figure["kind"] for figure in world["figures"]] for world in shown.worlds]
    assert [each.count("worlds") for each in kinds] == [1, 1]


def test_metrics_are_the_means_with_their_deviations(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(10.0, 6.0))
    groups = {group.l0: group for group in summarize_directory(database)}
    panels = figure_of(tmp_path, "metrics").panels
    shown = {name: text for name, text in TABLE_METRICS.items() if name != "sae_l0"}
    assert [panel.title for panel in panels] == list(shown.values())
    saes = ["BatchTopK", "Standard L1", "JumpReLU"]
    for panel, metric in zip(panels, shown, strict=True):
        means = [trace for trace in panel.traces if trace["mode"] == "lines+markers"]
        assert [trace["name"] for trace in means] == saes
        for trace, sae in zip(means, saes, strict=True):
            # From the lowest L0 to the highest, whatever the suite's order.
            own = [groups[l0].saes[sae] for l0 in (6.0, 10.0)]
            for axis, name in (("x", "sae_l0"), ("y", metric)):
                of_axis = [each[name] for each in own]
                assert trace[axis] == pytest.approx([each.mean for each in of_axis], rel=5e-5)
                # Deviations have two digits.
                expected = [each.std for each in of_axis]
                assert trace[f"error_{axis}"]["array"] == pytest.approx(expected, rel=0.05)
    published = [
        (panel.title, trace["name"], trace["x"], trace["y"], trace["error_y"]["array"])
        for panel in panels
        for trace in panel.traces
        if trace["mode"] == "markers"
    ]
    assert published == [("MCC", "BatchTopK", [6.0], [0.7574], [0.0003])]


def test_features_by_frequency_are_means_over_seeds(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK", "JumpReLU"), seeds=(0, 1))
    assert "by-frequency" not in {each.kind.name for each in figures(read_report_data(tmp_path))}
    for run in database.runs():
        if run.sae == "JumpReLU":
            bins = {
                f"by_frequency/{place}/{name}": value + 0.1 * place + 0.02 * run.seed
                for place in range(6)
                for name, value in (("f1", 0.1), ("coverage/0.8", 0.2), ("mcc", 0.3))
            }
            finish(database, run, metrics=run.metrics | bins)
    panels = figure_of(tmp_path, "by-frequency", 6.0).panels
    assert len(panels) == 3
    for panel, value in zip(panels, (0.1, 0.2, 0.3), strict=True):
        (trace,) = panel.traces
        assert (trace["name"], trace["legendgroup"]) == ("JumpReLU", "1")
        assert trace["y"] == pytest.approx([value + 0.01 + 0.1 * place for place in range(5)])
        assert trace["error_y"]["array"] == pytest.approx([0.02 / np.sqrt(2)] * 5, rel=0.05)
    # Bins are in figures, and single ones in tables where they have a name there.
    titles = [panel.title for panel in figure_of(tmp_path, "metrics").panels]
    assert "rarest-quarter F1" in titles
    headings = [each["title"] for each in run_table(read_report_data(tmp_path))["columns"]]
    assert "rarest-quarter F1" in headings
    assert not [each for each in headings if "fifth" in each]


def test_one_seed_has_no_bars_and_no_band(tmp_path: Path) -> None:
    fill(tmp_path, seeds=(0,), l0s=(6.0,), saes=("BatchTopK",))
    (trace,) = figure_of(tmp_path, "metrics").panels[0].traces
    assert trace["error_y"]["array"] == [0]
    panels = figure_of(tmp_path, "curves", 6.0).panels
    assert [len(panel.traces) for panel in panels] == [1] * 4


def curve(values: list[float]) -> TrainingHistory:
    rows = enumerate(values, 1)
    return TrainingHistory({"step": i, "samples": 100 * i, "loss": value} for i, value in rows)


def test_curves_are_means_and_ranges_over_seeds(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0, 1))
    one, other = database.runs()
    finish(database, one, history=curve([9.0, 4.0, 2.0]))
    finish(database, other, history=curve([7.0, 5.0, 3.0, 1.0]))
    panel = panel_of(tmp_path, "curves", 6.0)
    assert panel.title == "loss"
    assert "type" not in panel.y
    mean, low, high = panel.traces
    # Where one has ended, the other goes on alone.
    assert mean["y"] == [8, 4.5, 2.5, 1]
    assert (low["y"], high["y"]) == ([7, 4, 2, 1], [9, 5, 3, 1])
    # Between the two is the band.
    assert (low.get("fill"), high["fill"]) == (None, "tonexty")
    assert {tuple(trace["x"]) for trace in panel.traces} == {(100, 200, 300, 400)}


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0,))
    losses = [1000.0 / step for step in range(1, 5001)]
    finish(database, database.runs()[0], history=curve(losses))
    panel = panel_of(tmp_path, "curves", 6.0)
    (values,) = panel.traces
    assert len(values["x"]) <= 200
    assert (values["x"][0], values["x"][-1]) == (100, 500_000)
    assert values["x"][:8] == [100 * step for step in range(1, 9)]
    # Four digits of the places, six of the samples.
    expected = np.array([losses[round(x / 100) - 1] for x in values["x"]])
    np.testing.assert_allclose(values["y"], expected, rtol=5e-4)
    assert panel.y["type"] == "log"


def test_latents_are_counted_by_cell(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0, 1))
    rng = np.random.default_rng(5)
    recalls, precisions = [], []
    for run in database.runs():
        columns: dict[str, Any] = {name: rng.random(500) for name in LATENT_COLUMNS}
        columns["rate"][:50] = 0
        columns["recall"][499] = columns["precision"][499] = 1.0
        finish(database, run, latents=columns)
        recalls.append(columns["recall"][50:])
        precisions.append(columns["precision"][50:])
    panel = panel_of(tmp_path, "precision-recall", 6.0)
    assert panel.title == "BatchTopK: 100 of 1,000 never fired"
    cells, means = panel.traces
    side = len(cells["z"])
    # The database has four bytes of each.
    recall, precision = (np.concatenate(each).astype("f4") for each in (recalls, precisions))
    edges = np.linspace(0, 1, side + 1)
    expected = np.histogram2d(precision, recall, bins=(edges, edges))[0] / 10
    assert side == 40
    # Percent of 1,000 latents are tenths, which two digits hold.
    np.testing.assert_allclose(cells["z"], expected, atol=1e-12)
    assert cells["zmax"] == pytest.approx(expected.max())
    assert (cells["x0"], cells["dx"], cells["y0"], cells["dy"]) == (0.0125, 0.025, 0.0125, 0.025)
    assert means["x"] == pytest.approx([recall.mean()], rel=5e-4)
    assert means["y"] == pytest.approx([precision.mean()], rel=5e-4)


def test_latents_that_never_fired_have_no_means(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0,))
    finish(database, database.runs()[0], latents={name: np.zeros(3) for name in LATENT_COLUMNS})
    panel = panel_of(tmp_path, "precision-recall", 6.0)
    assert panel.title == "BatchTopK: 3 of 3 never fired"
    (cells,) = panel.traces
    assert cells["type"] == "heatmap"
    assert np.any(cells["z"]) == np.False_


def test_throughput_is_by_hardware(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK", "Gated"), seeds=(0, 1, 2))
    for run, speed in zip(database.runs(), (100.0, 104.0, 5000.0, 10.0, 30.0, 20.0), strict=True):
        if run.seed == 2:
            database.start(run.key, "0.1.0", 1, {"gpu": "fast"})
        finish(database, run, samples_per_second=speed)
    panel = panel_of(tmp_path, "throughput")
    shown = [
        (each["name"], each["y"], each["x"], each["error_x"]["array"]) for each in panel.traces
    ]
    assert shown == [
        ("made up, threads 2", ["BatchTopK", "Gated"], [102, 20], [2.8, 14]),
        ("fast", ["BatchTopK", "Gated"], [5000, 20], [0, 0]),
    ]
    assert panel.x["type"] == "log"
    assert read_report_data(tmp_path).hardware == ["made up, threads 2", "fast"]


def test_names_beside_an_axis_are_short_where_they_stay_different(tmp_path: Path) -> None:
    long = "n" * 100
    fill(tmp_path / "a", saes=(long, "short"), l0s=(6.0,))
    panel = panel_of(tmp_path / "a", "throughput")
    assert panel.traces[0]["y"] == ["n" * 18 + "…" + "n" * 17, "short"]
    fill(tmp_path / "b", saes=(f"{long}a{long}", f"{long}b{long}"), l0s=(6.0,))
    panel = panel_of(tmp_path / "b", "throughput")
    assert len(set(panel.traces[0]["y"])) == 2


def test_hardware_in_words() -> None:
    assert (
        in_words({"cpu": "AMD EPYC", "threads": 2, "torch": "2.13.0", "instruction_set": "avx2"})
        == "AMD EPYC, threads 2, torch 2.13.0, avx2"
    )


def test_the_page_and_images_have_the_same_figures(tmp_path: Path) -> None:
    fill(tmp_path, l0s=(6.0, None))
    contents = read_report_data(tmp_path)
    (world,) = Page(page(contents)).worlds
    kinds = {}
    for on_page, figure in zip(world["figures"], figures(contents), strict=True):
        plot = figure.plot()
        assert {name: on_page[name] for name in plot} == json.loads(json.dumps(plot))
        assert (on_page["kind"], on_page["l0"]) == (figure.kind.name, figure.l0)
        legend = [name for _, name, _ in on_page["legend"]]
        image = drawn(figure).to_dict()
        assert len(image["data"]) == len(plot["data"])
        for trace, own in zip(image["data"], plot["data"], strict=True):
            assert {name: trace[name] for name in own} == own
        named = [trace["name"] for trace in image["data"] if trace["showlegend"]]
        assert image["layout"]["showlegend"] == bool(legend)
        assert not legend or named == legend
        titles = [each["text"] for each in image["layout"]["annotations"]]
        assert titles == [f"<b>{panel.title}</b>" for panel in figure.panels]
        title = image["layout"]["title"]["text"].replace("<br>", " ")
        assert title.startswith(figure.kind.title)
        assert figure.kind.caption in title
        kinds[figure.kind.name] = legend
    assert kinds == {
        "metrics": contents.saes,
        "curves": contents.saes,
        "precision-recall": [],
        "throughput": contents.hardware,
    }


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formats kaleido is asked for."""
    asked: list[str] = []
    pretend_kaleido(monkeypatch, lambda _, path, format, scale: asked.append(format))
    return asked


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_each_figure_is_a_file(tmp_path: Path, ending: str, written: list[str]) -> None:
    fill(tmp_path, suite="../a b", worlds=("w/1", "w?1"), l0s=(6.5,))
    paths = write_images(read_report_data(tmp_path), tmp_path / "figures", ending)
    assert written == [ending] * len(paths)
    assert all(path.is_file() for path in paths)
    assert [path.name for path in paths] == [
        f"metrics-..-a-b-w-1.{ending}",
        f"metrics-..-a-b-w-1-2.{ending}",
        f"worlds-..-a-b-l0-6.5.{ending}",
        f"curves-..-a-b-w-1-l0-6.5.{ending}",
        f"curves-..-a-b-w-1-l0-6.5-2.{ending}",
        f"precision-recall-..-a-b-w-1-l0-6.5.{ending}",
        f"precision-recall-..-a-b-w-1-l0-6.5-2.{ending}",
        f"throughput-..-a-b-w-1.{ending}",
        f"throughput-..-a-b-w-1-2.{ending}",
    ]
    assert {path.parent for path in paths} == {tmp_path / "figures"}
