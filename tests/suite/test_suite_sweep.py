"""Sweeps as tables and views: settings over seeds, what is chosen, and the best."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from made_up_runs import fill, fill_sweep, outcome

from synthkern.suite.best import best_settings, parse_search
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.report import page, read_report_data, read_sweeps
from synthkern.suite.report.figure import Panel
from synthkern.suite.report.parallel import parallel_plot
from synthkern.suite.report.sweeps import SweepReport, sweep_figure
from synthkern.suite.sweep import Sweep, read_sweep
from synthkern.suite.sweep_text import best_text, view_text
from synthkern.suite.view import View, ViewOptions, choose_view


@pytest.fixture
def database(tmp_path: Path) -> RunDatabase:
    """Three worlds, two learning rates, two SAEs, two seeds."""
    return fill_sweep(tmp_path, lrs=(0.001, 0.02))


@pytest.fixture
def sweep(database: RunDatabase) -> Sweep:
    return read_sweep(database.runs())


def refusal(sweep: Sweep, **options: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        choose_view(sweep, ViewOptions(**options))  # type: ignore[arg-type]
    return str(caught.value)


def test_settings_are_runs_that_differ_in_their_seeds(database: RunDatabase, sweep: Sweep) -> None:
    assert sweep.counts == [2] * 12
    assert [each.name for each in sweep.fields] == ["sae", "hidden_dim", "lr"]
    assert sweep.variables["hidden_dim"].distinct == [64, 128, 256]
    assert sweep.variables["sae"].distinct == ["BatchTopK", "JumpReLU"]
    first, second = (run.metrics["mcc"] for run in database.runs()[:2])
    mcc = sweep.variables["mcc"]
    assert mcc.values[0] == pytest.approx(statistics.mean([first, second]))
    assert mcc.stds[0] == pytest.approx(statistics.stdev([first, second]))


def test_runs_that_are_not_done_and_figures_that_are_missing(database: RunDatabase) -> None:
    first, second, third, *_ = database.runs()
    database.fail(first.key, "Error: x")
    database.finish(second.key, outcome(metrics={"mcc": float("nan"), "new": 1.0}))
    sweep = read_sweep(database.runs())
    assert sweep.counts == [1] + [2] * 11
    assert sweep.variables["mcc"].values[0] is None
    assert sweep.variables["new"].values == [1.0] + [None] * 11
    view = choose_view(sweep, ViewOptions("hidden_dim", ("mcc",)))
    ((_, _, rows),) = view.panels()
    assert rows == list(range(1, 12))
    assert third.state == "done"


def test_fields_of_texts_and_of_some_runs(tmp_path: Path) -> None:
    fill_sweep(tmp_path, suite="a", lrs=(1, 2))
    runs = fill_sweep(tmp_path, suite="b").runs()
    runs[0].axes["lr"] = "linear"
    runs[1].axes["lr"] = [0.9, 0.99]
    lr = read_sweep(runs).variables["lr"]
    assert lr.distinct == ["linear", "[0.9, 0.99]", "1", "2"]
    assert None in lr.values


def test_figures_are_found_by_their_headings_too(sweep: Sweep) -> None:
    for name, found in {
        "f1": "classification/f1_score",
        "F1": "classification/f1_score",
        "precision": "classification/precision",
        "explained variance": "explained_variance",
        "l0": "l0",
        "sae_l0": "sae_l0",
        "samples/s": "samples_per_second",
    }.items():
        assert sweep.find("--y", name).name == found


def test_what_is_chosen_without_a_word(sweep: Sweep) -> None:
    view = choose_view(sweep, ViewOptions())
    assert view.x.name == "hidden_dim"
    assert [each.heading for each in view.y][:2] == ["F1", "MCC"]
    assert view.colour is not None
    assert view.colour.name == "sae"
    assert view.facet is None


def test_what_cannot_be_chosen_is_named(sweep: Sweep) -> None:
    assert "--x must be a field or a figure of the runs, world, sae" in refusal(sweep, x="nope")
    assert refusal(sweep, x="hiden_dim").endswith("got 'hiden_dim'; did you mean hidden_dim?")
    assert refusal(sweep, y=("sae",)) == "--y must name numbers, but sae has texts"
    assert refusal(sweep, facet="mcc") == "--facet must be a field, but mcc is measured"
    assert "--colour must be a field" in refusal(sweep, colour="color")
    with pytest.raises(ValueError, match="no run is done"):
        choose_view(read_sweep([]), ViewOptions(x="lr"))


def test_panels_with_more_than_can_be_seen(tmp_path: Path) -> None:
    saes = [f"SAE {number}" for number in range(41)]
    sweep = read_sweep(fill_sweep(tmp_path, dims=(8,), saes=saes, seeds=(0,)).runs())
    assert "--facet must have 12 values at most, but sae has 41" in refusal(
        sweep, facet="sae", colour="none"
    )
    assert "--colour must have 40 values at most" in refusal(sweep, x="mcc")


def test_lines_join_what_differs_in_nothing_else(database: RunDatabase, sweep: Sweep) -> None:
    plain = choose_view(sweep, ViewOptions("hidden_dim", ("mcc",)))
    by_lr = choose_view(sweep, ViewOptions("hidden_dim", ("mcc",), facet="lr"))
    assert [plain.is_line(sweep, rows) for _, _, rows in plain.series(range(12))] == [False] * 2
    for title, y, rows in by_lr.panels():
        assert title in ("MCC, lr = 0.001", "MCC, lr = 0.02")
        assert y.name == "mcc"
        assert [by_lr.is_line(sweep, found) for _, _, found in by_lr.series(rows)] == [True] * 2


def test_bands_are_deviations_over_seeds(tmp_path: Path, database: RunDatabase) -> None:
    (report,) = read_sweeps(
        read_report_data(tmp_path), ViewOptions("hidden_dim", ("mcc",), facet="lr")
    )
    figure = sweep_figure(report)
    assert list(figure.names) == ["BatchTopK", "JumpReLU"]
    first, second = figure.panels
    assert [panel.title for panel in (first, second)] == ["MCC, lr = 0.001", "MCC, lr = 0.02"]
    mean, low, high, *others = first.traces
    assert len(others) == 3
    assert mean["x"] == [64, 128, 256]
    mcc = report.sweep.variables["mcc"]
    rows = [
        row
        for row in range(12)
        if report.sweep.variables["sae"].values[row] == "BatchTopK"
        and report.sweep.variables["lr"].values[row] == 0.001
    ]
    # As many digits as can be seen.
    assert mean["y"] == pytest.approx([mcc.values[row] for row in rows], rel=1e-4)
    for at, row in enumerate(rows):
        assert high["y"][at] - mean["y"][at] == pytest.approx(mcc.stds[row], rel=1e-2)
        assert mean["y"][at] - low["y"][at] == pytest.approx(mcc.stds[row], rel=1e-2)


def test_colours_of_many_numbers_are_a_scale(tmp_path: Path, database: RunDatabase) -> None:
    (report,) = read_sweeps(
        read_report_data(tmp_path),
        ViewOptions("sae_l0", ("mcc", "f1"), colour="explained_variance"),
    )
    figure = sweep_figure(report)
    assert figure.names == []
    for number, panel in enumerate(figure.panels):
        (trace,) = panel.traces
        assert len(trace["x"]) == len(trace["marker"]["color"]) == 12
        assert trace["marker"]["showscale"] == (number == 0)


def test_all_axes_beside_each_other(sweep: Sweep) -> None:
    plot = parallel_plot(sweep, sweep.variables["mcc"])
    (trace,) = plot["data"]
    shown = {each["label"]: each for each in trace["dimensions"]}
    assert list(shown)[:4] == ["SAE", "hidden_dim", "lr", "MCC"]
    assert shown["SAE"]["ticktext"] == ["BatchTopK", "JumpReLU"]
    assert trace["line"]["color"] == sweep.variables["mcc"].values
    assert all(len(each["values"]) == 12 for each in shown.values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mcc", "highest mcc"),
        ("mcc where l0 within 5% of 25", "highest mcc where l0 within 5% of 25"),
        ("mcc where l0 within 5 % of asked", "highest mcc where l0 within 5% of the L0 asked for"),
        (
            "lowest  dead_latents where f1>=.7 and hidden_dim < 1e3",
            "lowest dead_latents where f1 >= 0.7 and hidden_dim < 1000",
        ),
    ],
)
def test_searches_are_read(text: str, told: str) -> None:
    assert str(parse_search("--best", text)) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--best must be \\[highest | lowest\\] FIGURE"),
        ("where l0 < 5", "--best must be"),
        ("mcc < 5", "--best must be"),
        ("mcc where", "--best must be"),
        ("mcc where l0 near 25", "'l0 near 25' is no condition"),
        ("mcc where l0 < 5 and", "--best must"),
        ("mcc where l0 within x% of 25", "must have a number where it has 'x'"),
        ("mcc where l0 within -5% of 25", "must have a percentage of 0 or more"),
        ("mcc where l0 < nan", "must have a number where it has 'nan'"),
    ],
)
def test_searches_that_cannot_be_read(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        best_settings("--best", read_sweep([]), parse_search("--best", text))


def test_the_best_keep_to_the_conditions(sweep: Sweep) -> None:
    mcc, l0, dims = (sweep.variables[name].values for name in ("mcc", "sae_l0", "hidden_dim"))
    search = parse_search("--best", "mcc where l0 within 1% of 6 and hidden_dim < 200")
    found = best_settings("--best", sweep, search)
    expected = [
        row
        for row in range(12)
        if abs(float(l0[row] or 0) - 6) <= 0.06 and float(dims[row] or 0) < 200
    ]
    assert sorted(found) == expected
    assert 0 < len(found) < 12
    assert [mcc[row] for row in found] == sorted((mcc[row] for row in found), reverse=True)
    asked = parse_search("--best", "lowest mcc where l0 within 1% of asked and hidden_dim < 200")
    assert best_settings("--best", sweep, asked) == found[::-1]
    nothing = parse_search("--best", "mcc where l0 > 100")
    assert best_settings("--best", sweep, nothing) == []
    assert best_text("--best", sweep, nothing) == ("highest mcc where l0 > 100: 0 of 12 settings")
    with pytest.raises(ValueError, match="--best must look at numbers, but sae has texts"):
        best_settings("--best", sweep, parse_search("--best", "sae"))


def test_tables_for_the_terminal(sweep: Sweep) -> None:
    view = choose_view(sweep, ViewOptions("hidden_dim", ("mcc",), facet="lr"))
    first, second = view_text(sweep, view, width=100).split("\n\n")
    mcc = sweep.variables["mcc"]
    assert first.splitlines()[:2] == ["MCC, lr = 0.001", " " * 22 + "BatchTopK         JumpReLU"]
    assert f"{mcc.values[0]:.4f} ± {mcc.stds[0]:.4f}" in first.splitlines()[2]
    assert second.startswith("MCC, lr = 0.02\n")
    # Settings that differ in more than what is shown.
    together = view_text(sweep, choose_view(sweep, ViewOptions("hidden_dim", ("mcc",))), width=100)
    assert together.count("(2)") == 6


def test_suites_that_vary_nothing_have_a_sweep_when_asked(tmp_path: Path) -> None:
    fill(tmp_path)
    fill_sweep(tmp_path)
    contents = read_report_data(tmp_path)
    assert [each.suite for each in read_sweeps(contents, ViewOptions())] == ["swept"]
    both = read_sweeps(contents, ViewOptions(x="sae_l0"))
    assert [each.suite for each in both] == ["made-up", "swept"]
    # What one of them alone has is looked at in that one.
    assert [each.suite for each in read_sweeps(contents, ViewOptions("hidden_dim"))] == ["swept"]
    with pytest.raises(ValueError, match="--x must be"):
        read_sweeps(contents, ViewOptions("nope"))
    assert 'id="sweep"' not in page(contents)
    assert 'id="sweep"' in page(contents, both)


def test_sweeps_of_many_names_have_no_figures_of_each(tmp_path: Path) -> None:
    fill_sweep(tmp_path, dims=(8,), lrs=[0.001 * n for n in range(1, 22)], seeds=(0,))
    contents = read_report_data(tmp_path)
    assert contents.uncrowded().runs == []
    few = read_report_data(fill_sweep(tmp_path / "few").path.parent)
    assert few.uncrowded() is few


def test_null_is_a_value_and_not_a_field_that_is_missing(tmp_path: Path) -> None:
    runs = fill_sweep(tmp_path, lrs=(0.001, 0.02)).runs()
    for run in runs:
        run.axes["lr"] = None if run.axes["lr"] == 0.02 else run.axes["lr"]
        if run.axes["sae"] == "JumpReLU":
            run.axes["k"] = 5
    sweep = read_sweep(runs)
    assert sweep.variables["lr"].distinct == ["0.001", "null"]
    # Every setting is in a line and in a column, those without the field too.
    view = choose_view(sweep, ViewOptions("lr", ("mcc",), colour="k", facet="hidden_dim"))
    assert sum(len(rows) for *_, rows in view.panels()) == len(sweep.counts)
    text = view_text(sweep, view)
    assert "lr null" in text
    assert text.splitlines()[1].split() == ["5", "-"]
    by_k = choose_view(sweep, ViewOptions("hidden_dim", ("mcc",), facet="k"))
    assert [title for title, *_ in by_k.panels()] == ["MCC, k = 5", "MCC, k = -"]
    names = {trace["name"] for panel in _drawn(runs, view) for trace in panel.traces}
    assert names == {"5", "-"}


def _drawn(runs: list[Run], view: View) -> list[Panel]:
    sweep = read_sweep(runs)
    return sweep_figure(SweepReport("made-up", sweep, view, None, [])).panels


def test_text_and_search_see_figures_as_they_are(tmp_path: Path) -> None:
    database = fill_sweep(tmp_path, lrs=(0.001,))
    for run in database.runs():
        database.finish(run.key, outcome(metrics={"mcc": 0.2621530}))
    (report,) = read_sweeps(
        read_report_data(tmp_path), ViewOptions("hidden_dim", ("mcc",)), "mcc where mcc > 0.262151"
    )
    # The page has five digits of it, which alone would be rounded to 0.2621.
    assert "0.2622" in view_text(report.sweep, report.view)
    assert len(report.best) == len(report.sweep.counts)


def test_no_finished_run_is_no_sweep(tmp_path: Path) -> None:
    database = fill_sweep(tmp_path, lrs=(0.001,))
    for run in database.runs():
        database.reset(run.key)
    contents = read_report_data(tmp_path)
    assert read_sweeps(contents, ViewOptions(), every=True) == []
    with pytest.raises(ValueError, match="no run is done"):
        read_sweeps(contents, ViewOptions("lr"))
