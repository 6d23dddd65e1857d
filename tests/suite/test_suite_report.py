"""A report's page: that what is in it is what the database has."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import fill, outcome
from report_pages import Page, text_of

from synthkern.suite.database import RunDatabase
from synthkern.suite.report import page, read_report_data
from synthkern.suite.report.figure import label, short, wide
from synthkern.suite.summary import TABLE_METRICS, summarize_directory

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nRuntimeError: out of memory\n'

#: Names that a page, a template, a script or a figure could take for something else.
NAMES = (
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "$data ${x} $$",
    "\"double\" & 'single' <b>bold</b>",
    "日本語 é 🎉 \u2028",
    "__proto__",
    "{{ label }} {% raw %}",
)


def page_of(directory: Path) -> Page:
    return Page(page(read_report_data(directory)))


def test_tables_are_the_summaries_number_for_number(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0, None))
    runs = database.runs()
    database.fail(runs[1].key, TRACEBACK)
    database.reset(runs[2].key)
    groups = summarize_directory(database)
    found = page_of(tmp_path)
    headings = [column["title"] for column in found.packed["shared"]["columns"]]
    assert headings == ["SAE", "L0 asked for", *TABLE_METRICS.values(), "seeds"]
    (world,) = found.worlds
    expected = [
        [sae, group.l0, *(figures[name].mean for name in TABLE_METRICS), group.states[sae]["done"]]
        for group in groups
        for sae, figures in group.saes.items()
    ]
    assert [[value for _, value in row] for row in world["rows"]] == expected


def test_tables_say_spreads_published_values_and_what_is_not_done(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,))
    database.fail(database.runs()[0].key, TRACEBACK)
    database.reset(database.runs()[3].key)
    (group,) = summarize_directory(database)
    (world,) = page_of(tmp_path).worlds
    batch, standard, _ = ([text_of(html) for html, _ in row] for row in world["rows"])
    mcc = group.saes["BatchTopK"]["mcc"]
    assert mcc.difference is not None
    assert batch[3].split("\n") == [
        f"{mcc.mean:.4f} ± {mcc.std:.4f}",
        f"{mcc.difference:+.1f}\u03c3 0.7574 ± 0.0003".replace("-", "\u2212"),
    ]
    assert ("far" in world["rows"][0][3][0]) == (abs(mcc.difference) > 3)
    dead = group.saes["Standard L1"]["dead_latents"]
    assert standard[7] == f"{dead.mean:.1f} ± {dead.std:.1f}"
    assert (batch[8], standard[8]) == ("2\n1 failed", "2\n1 pending")


def test_runs_are_those_of_the_database(tmp_path: Path) -> None:
    database = fill(tmp_path, worlds=("a", "b"), l0s=(6.0, None))
    database.fail(database.runs()[4].key, TRACEBACK)
    runs = database.runs()
    found = page_of(tmp_path).runs
    assert len(found) == len(runs) == 36
    for shown, run in zip(found, runs, strict=True):
        place = [shown[name] for name in ("state", "suite", "world", "SAE", "L0 asked for", "seed")]
        assert place == [run.state, run.suite, run.world, run.sae, run.l0, run.seed]
        assert shown["seconds"] == run.seconds
        assert shown["samples/s"] == run.samples_per_second
        details = shown["details"]
        assert details["configuration"] == run.config
        assert details["hardware"] == run.hardware
        for name in ("key", "error", "code version", "stream version"):
            assert details[name] == getattr(run, name.replace(" ", "_"))
    assert found[4]["error"] == "RuntimeError: out of memory"
    titles = [shown["details"]["run"] for shown in found]
    assert titles[0] == "BatchTopK, L0 = 6, seed 0"
    assert titles[9] == "BatchTopK, seed 0"


def test_runs_have_all_their_figures_and_the_errors_of_these(tmp_path: Path) -> None:
    runs = fill(tmp_path).runs()
    found = page_of(tmp_path)
    columns = found.packed["shared"]["runs"]["columns"]
    headings = [column["title"] for column in columns]
    # After those that say which run it is come the tables' figures, and then the others.
    assert headings[9 : 9 + len(TABLE_METRICS)] == list(TABLE_METRICS.values())
    others = ["true L0", "shrinkage", "precision", "recall"]
    assert headings[9 + len(TABLE_METRICS) :] == [*others, "seconds", "samples/s"]
    for shown, run in zip(found.runs, runs, strict=True):
        for name, heading in TABLE_METRICS.items():
            assert shown[heading] == run.metrics[name]
    cell = found.packed["shared"]["runs"]["rows"][0][headings.index("uniqueness")][0]
    assert text_of(cell) == f"{runs[0].metrics['uniqueness']:.4f} ± 0.0010"


def test_only_finished_runs_have_figures(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), seeds=(0,))
    _, failed, pending = database.runs()
    database.fail(failed.key, TRACEBACK)
    database.reset(pending.key)
    for heading in TABLE_METRICS.values():
        missing = [shown[heading] is None for shown in page_of(tmp_path).runs]
        assert missing == [False, True, True]


def test_what_is_not_finite_is_counted_and_not_drawn(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0, 1))
    first, second = database.runs()
    database.finish(first.key, outcome(metrics={**first.metrics, "mcc": math.nan}))
    found = page_of(tmp_path)
    cells = dict(zip(TABLE_METRICS, found.worlds[0]["rows"][0][2:], strict=False))
    assert cells["mcc"][1] == second.metrics["mcc"]
    assert text_of(cells["mcc"][0]).endswith("\nfinite in 1 of 2 runs")
    assert "finite" not in cells["uniqueness"][0]
    assert [shown["MCC"] for shown in found.runs] == [None, second.metrics["mcc"]]
    database.finish(first.key, outcome(metrics=dict.fromkeys(first.metrics, math.inf)))
    database.finish(second.key, outcome(metrics={}))
    (world,) = page_of(tmp_path).worlds
    assert world["rows"][0][2:-1] == [["\u2013", None]] * len(TABLE_METRICS)
    assert {figure["kind"] for figure in world["figures"]} == {"throughput"}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_data_and_nothing_else(tmp_path: Path, name: str) -> None:
    database = fill(
        tmp_path, suite=f"s {name}", worlds=(f"w {name}",), saes=(name,), l0s=(6.0,), seeds=(0, 1)
    )
    done = database.runs()[0]
    database.start(done.key, name, 1, {"cpu": name})
    database.fail(done.key, f"Error: {name}")
    found = page_of(tmp_path)
    assert {f"w {name}", name} <= set(found.texts)
    assert [shown["world"] for shown in found.runs] == [f"w {name}"] * 2
    configs = [shown["details"]["configuration"] for shown in found.runs]
    assert configs == [run.config for run in database.runs()]
    for *cells, _ in found.packed["shared"]["runs"]["rows"] + [
        [*row, None] for row in found.worlds[0]["rows"]
    ]:
        for html, value in cells:
            # Of tags a cell has its own, and a text is read as it is.
            assert {tag for tag, _ in Page(html).tags} <= {"span", "button", "small"}
            if isinstance(value, str):
                assert text_of(html) == value
    # The tags are those of a page without any name.
    plain = fill(tmp_path / "plain", saes=("A",), l0s=(6.0,), seeds=(0, 1))
    done = plain.runs()[0]
    plain.start(done.key, "B", 1, {"cpu": "C"})
    plain.fail(done.key, "Error: D")
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in page_of(plain.path.parent).tags]


def test_the_page_needs_nothing_besides_itself(tmp_path: Path) -> None:
    fill(tmp_path)
    found = page_of(tmp_path)
    elsewhere = [
        (tag, name, value)
        for tag, attributes in found.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "action", "data", "poster")
    ]
    assert elsewhere == [("link", "href", "data:,")]
    # And what a script or a style may ask for, plotly's included, the browser refuses.
    (policy,) = (
        attributes["content"]
        for _, attributes in found.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = {words[0]: words[1:] for words in map(str.split, policy.split(";"))}
    assert rules.pop("default-src") == ["'none'"]
    assert {source for allowed in rules.values() for source in allowed} == {
        "'unsafe-inline'",
        "data:",
        "blob:",
    }


def test_the_library_of_tables_comes_with_its_licence(tmp_path: Path) -> None:
    fill(tmp_path)
    text = page(read_report_data(tmp_path))
    folder = resources.files("synthkern.suite.report")
    (library,) = (each for each in folder.iterdir() if each.name.endswith(".min.js"))
    assert library.read_text(encoding="utf-8") in text
    licence = folder.joinpath(library.name.replace(".min.js", ".LICENSE.txt"))
    assert licence.read_text(encoding="utf-8").startswith("The MIT License")


def test_a_directory_without_runs_and_one_where_nothing_is_finished(tmp_path: Path) -> None:
    RunDatabase(tmp_path / "empty", create=True)
    found = page_of(tmp_path / "empty")
    assert (found.worlds, found.runs) == ([], [])
    database = fill(tmp_path / "begun")
    for run in database.runs():
        database.reset(run.key)
    found = page_of(tmp_path / "begun")
    (world,) = found.worlds
    assert world["figures"] == []
    assert len(found.runs) == 18
    shown = [[value for _, value in row[2:]] for row in world["rows"]]
    assert shown == [[*[None] * len(TABLE_METRICS), 0]] * 6


def test_published_values_have_their_sources(tmp_path: Path) -> None:
    fill(tmp_path, suite="one", l0s=(6.0,))
    database = fill(tmp_path, suite="two", l0s=(6.0,))
    database.add("two", {"name": "two"}, [])
    found = page_of(tmp_path)
    one, two = ("".join(html for row in world["rows"] for html, _ in row) for world in found.worlds)
    assert ("&sigma;" in one, "&sigma;" in two) == (True, False)
    assert "Published: a made-up paper." in "".join(found.texts)


def test_long_tracebacks_keep_their_ends(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",))
    long, short_, _ = database.runs()
    database.fail(long.key, "x" * 5000 + "the end")
    database.fail(short_.key, TRACEBACK)
    shown = [each["details"]["error"] for each in page_of(tmp_path).runs]
    assert shown == ["…" + "x" * 3992 + "the end", TRACEBACK, None]


def test_configs_are_shown_whole(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",))
    runs = database.runs()
    configs: list[dict[str, Any]] = [
        {"a": {"b": {"c": 1, "d": [1, {"e": None}]}, "empty": {}}, "same": "x"},
        {"a": {"b": {"c": True}}, "same": "x", "__proto__": {"y": 1.0}},
        {"a": {"b": {"c": 1.0}}, "same": "x", "f": None},
    ]
    database.add(
        "made-up",
        {},
        [replace(run, config=config) for run, config in zip(runs, configs, strict=True)],
    )
    shown = [each["details"]["configuration"] for each in page_of(tmp_path).runs]
    assert shown == configs
    assert [type(config["a"]["b"]["c"]) for config in shown] == [int, bool, float]


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.123456, 4, 0.1235),
        (-123456.0, 4, -123500),
        (12.0, 4, 12),
        (0.0, 4, 0),
        (math.nan, 4, None),
        (-math.inf, 4, None),
        (1.23456e-300, 2, 1.2e-300),
        (1.23456e300, 2, 1.2e300),
        (0.05, 1, 0.05),
    ],
)
def test_short_numbers(value: float, digits: int, expected: float | None) -> None:
    (found,) = short([value], digits)
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-14))
    assert isinstance(found, int) == isinstance(expected, int)


def test_wide_ranges_are_logarithms() -> None:
    assert wide([1.0, 10.1])
    assert not wide([1.0, 10.0])
    assert not wide([0.0, 10.0])
    assert not wide([-1.0, 100.0])


def test_labels_are_texts_of_plotly() -> None:
    assert label("a <b> & $x$") == "a &lt;b&gt; &amp; &#36;x&#36;"
    assert label("0123456789", 10) == "0123456789"
    assert label("0123456789a", 10) == "01234…789a"
    assert label("0123456789ab", 9) == "0123…89ab"
