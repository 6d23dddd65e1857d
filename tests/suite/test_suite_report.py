"""A report's page: that what is in it is what the database has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import fill, outcome
from report_pages import Page, config_of, in_rows

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
    "@label",
)


def page_of(directory: Path) -> Page:
    return Page(page(read_report_data(directory)))


def data_of(directory: Path) -> Any:
    return page_of(directory).data


def test_tables_are_the_summaries_number_for_number(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0, None))
    runs = database.runs()
    database.fail(runs[1].key, TRACEBACK)
    database.reset(runs[2].key)
    groups = summarize_directory(database)
    data = data_of(tmp_path)
    assert [each["name"] for each in data["metrics"]] == list(TABLE_METRICS)
    assert len(data["groups"]) == len(groups) == 2
    for found, group in zip(data["groups"], groups, strict=True):
        place = (found["suite"], found["world"], found["l0"])
        assert place == (group.suite, group.world, group.l0)
        assert found["sources"] == group.sources
        assert [row["sae"] for row in found["rows"]] == list(group.saes)
        for row, (sae, figures) in zip(found["rows"], group.saes.items(), strict=True):
            assert row["states"] == group.states[sae]
            for shown, name in zip(row["figures"], TABLE_METRICS, strict=True):
                figure = figures[name]
                expected = {"mean": figure.mean, "std": figure.std, "count": figure.count}
                if figure.published is not None:
                    expected["published"] = [figure.published.mean, figure.published.std]
                    expected["difference"] = figure.difference
                assert shown == expected
    published = [
        (found["l0"], row["sae"])
        for found in data["groups"]
        for row in found["rows"]
        if any("published" in figure for figure in row["figures"])
    ]
    assert published == [(6.0, "BatchTopK")]


def test_runs_are_those_of_the_database(tmp_path: Path) -> None:
    database = fill(tmp_path, worlds=("a", "b"), l0s=(6.0, None))
    database.fail(database.runs()[4].key, TRACEBACK)
    runs = database.runs()
    found = data_of(tmp_path)["runs"]
    assert found["count"] == len(runs) == 36
    assert [found["states"][number] for number in found["state"]] == [run.state for run in runs]
    for name in ("key", "l0", "seed"):
        assert found[name] == [getattr(run, name) for run in runs]
    for name in ("suite", "world", "sae", "code_version", "stream_version", "hardware", "error"):
        assert in_rows(found[name]) == [getattr(run, name) for run in runs]
    assert [config_of(found, number) for number in range(36)] == [run.config for run in runs]


def test_figures_of_runs_keep_eight_digits(tmp_path: Path) -> None:
    runs = fill(tmp_path).runs()
    found = data_of(tmp_path)["runs"]
    names = [column["name"] for column in found["metrics"]]
    assert names[: len(TABLE_METRICS)] == list(TABLE_METRICS)
    assert set(names) == set(runs[0].metrics)
    for column in found["metrics"]:
        own = [run.metrics[column["name"]] for run in runs]
        # Half a unit of the last digit.
        assert column["values"] == pytest.approx(own, rel=5e-8)
        errors = [run.standard_errors.get(column["name"]) for run in runs]
        assert column["errors"] == errors
    assert found["seconds"] == [run.seconds for run in runs]
    assert found["samples_per_second"] == [run.samples_per_second for run in runs]


def test_only_finished_runs_have_figures(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), seeds=(0,))
    done, failed, pending = database.runs()
    database.fail(failed.key, TRACEBACK)
    database.reset(pending.key)
    for column in data_of(tmp_path)["runs"]["metrics"]:
        assert [value is None for value in column["values"]] == [False, True, True]
        assert column["values"][0] == pytest.approx(done.metrics[column["name"]], rel=5e-8)


def test_what_is_not_finite_is_counted_and_not_drawn(tmp_path: Path) -> None:
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",), seeds=(0, 1))
    first, second = database.runs()
    database.finish(first.key, outcome(metrics={**first.metrics, "mcc": math.nan}))
    data = data_of(tmp_path)
    figures = dict(zip(TABLE_METRICS, data["groups"][0]["rows"][0]["figures"], strict=True))
    assert (figures["mcc"]["mean"], figures["mcc"]["count"]) == (second.metrics["mcc"], 1)
    assert figures["uniqueness"]["count"] == 2
    (values,) = (each["values"] for each in data["runs"]["metrics"] if each["name"] == "mcc")
    assert values == [None, pytest.approx(second.metrics["mcc"], rel=5e-8)]
    database.finish(first.key, outcome(metrics=dict.fromkeys(first.metrics, math.inf)))
    database.finish(second.key, outcome(metrics={}))
    data = data_of(tmp_path)
    assert data["groups"][0]["rows"][0]["figures"] == [None] * len(TABLE_METRICS)
    assert {figure["kind"] for figure in data["figures"]} == {"throughput"}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_data_and_nothing_else(tmp_path: Path, name: str) -> None:
    database = fill(
        tmp_path, suite=f"s {name}", worlds=(f"w {name}",), saes=(name,), l0s=(6.0,), seeds=(0, 1)
    )
    done = database.runs()[0]
    database.start(done.key, name, 1, {"cpu": name})
    database.fail(done.key, f"Error: {name}")
    found = page_of(tmp_path)
    data = found.data
    assert data["names"] == {"saes": [name], "hardware": [name, "made up, threads 2"]}
    assert in_rows(data["runs"]["world"]) == [f"w {name}"] * 2
    assert in_rows(data["runs"]["error"]) == [f"Error: {name}", None]
    assert [config_of(data["runs"], number) for number in (0, 1)] == [
        run.config for run in database.runs()
    ]
    # The tags are those of a page without any name.
    plain = fill(tmp_path / "plain", saes=("A",), l0s=(6.0,), seeds=(0, 1))
    done = plain.runs()[0]
    plain.start(done.key, "B", 1, {"cpu": "C"})
    plain.fail(done.key, "Error: D")
    assert found.tags == page_of(plain.path.parent).tags
    assert found.scripts[1].isascii()
    assert not set("<>&") & set(found.scripts[1])


def test_the_page_needs_nothing_besides_itself(tmp_path: Path) -> None:
    fill(tmp_path)
    found = page_of(tmp_path)
    assert [tag for tag, _ in found.tags].count("script") == len(found.scripts) == 3
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


def test_a_directory_without_runs_and_one_where_nothing_is_finished(tmp_path: Path) -> None:
    RunDatabase(tmp_path / "empty", create=True)
    data = data_of(tmp_path / "empty")
    assert (data["groups"], data["figures"], data["runs"]["count"]) == ([], [], 0)
    database = fill(tmp_path / "begun")
    for run in database.runs():
        database.reset(run.key)
    data = data_of(tmp_path / "begun")
    assert data["figures"] == []
    assert data["runs"]["count"] == 18
    figures = [row["figures"] for group in data["groups"] for row in group["rows"]]
    assert figures == [[None] * len(TABLE_METRICS)] * 6


def test_long_tracebacks_keep_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthkern.suite.report.payload._ERRORS", 2000)
    database = fill(tmp_path, l0s=(6.0,), saes=("BatchTopK",))
    long, short_, _ = database.runs()
    database.fail(long.key, "x" * 5000 + "the end")
    database.fail(short_.key, TRACEBACK)
    # Three different ones, with None, share 2,000 characters.
    shown = in_rows(data_of(tmp_path)["runs"]["error"])
    assert shown == ["…" + "x" * 659 + "the end", TRACEBACK, None]


def test_configs_with_other_keys_stay_apart(tmp_path: Path) -> None:
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
    found = data_of(tmp_path)["runs"]
    shown = [config_of(found, number) for number in range(3)]
    assert shown == configs
    assert [type(config["a"]["b"]["c"]) for config in shown] == [int, bool, float]
    assert found["config"]["common"] == [[["same"], "x"]]


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
