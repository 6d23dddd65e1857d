"""Runs summed up over seeds, by hand-computed cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import WORLD, fill
from suite_runs import run

from synthkern.suite.database import RunDatabase
from synthkern.suite.published import Published
from synthkern.suite.summary import (
    MeanStd,
    last_line,
    metric_heading,
    summarize,
    summarize_directory,
)


def published(mean: float, std: float, **other: object) -> Published:
    fields = {"source": "a paper", "world": "world", "sae": "A", "l0": 25.0, "metric": "mcc"}
    fields["world_fingerprint"] = "a" * 64  # of the runs
    return Published(**{**fields, "mean": mean, "std": std, **other})  # type: ignore[arg-type]


def test_mean_and_standard_deviation_over_seeds() -> None:
    (group,) = summarize([run(seed=seed, mcc=value) for seed, value in enumerate((1, 2, 6))])
    figure = group.saes["A"]["mcc"]
    # (4 + 1 + 9) / 2
    assert (figure.mean, figure.std, figure.count) == (3.0, 7**0.5, 3)
    assert figure.published is None
    assert figure.difference is None
    assert group.sources == []


def test_one_seed_has_no_standard_deviation() -> None:
    (group,) = summarize([run(mcc=0.5)])
    assert group.saes == {"A": {"mcc": MeanStd(0.5, None, 1)}}


def test_what_is_not_finite_counts_as_missing() -> None:
    runs = [run(seed=0, mcc=0.5, f1=None), run(seed=1, mcc=None, f1=None), run(seed=2, mcc=0.7)]
    (group,) = summarize(runs)
    assert group.saes["A"].keys() == {"mcc"}
    assert group.saes["A"]["mcc"].count == 2
    assert group.saes["A"]["mcc"].mean == pytest.approx(0.6, abs=1e-15)
    assert group.states["A"]["done"] == 3


def test_only_finished_runs_have_figures() -> None:
    runs = [
        run(seed=0, mcc=0.5),
        run(seed=1, mcc=0.9, state="failed", error="ValueError: no"),
        run(seed=2, mcc=0.9, state="running"),
        run("B", 0, state="pending"),
    ]
    (group,) = summarize(runs)
    assert group.saes == {"A": {"mcc": MeanStd(0.5, None, 1)}, "B": {}}
    assert group.states == {
        "A": {"pending": 0, "running": 1, "done": 1, "failed": 1, "pruned": 0},
        "B": {"pending": 1, "running": 0, "done": 0, "failed": 0, "pruned": 0},
    }
    assert group.failed == [runs[1]]


def test_groups_keep_the_order_of_the_runs() -> None:
    runs = [
        run("B", 0, 10.0),
        run("A", 0, 10.0),
        run("A", 0, None),
        run("A", 0, 10.0, world="other"),
        run("A", 1, 10.0),
        run("A", 0, 10.0, suite="another"),
    ]
    groups = summarize(runs)
    assert [(group.suite, group.world, group.l0) for group in groups] == [
        ("mine", "world", 10.0),
        ("mine", "world", None),
        ("mine", "other", 10.0),
        ("another", "world", 10.0),
    ]
    assert list(groups[0].saes) == ["B", "A"]
    assert groups[0].states["A"]["done"] == 2
    assert [group.place for group in groups[:2]] == ["world, L0 = 10", "world"]


@pytest.mark.parametrize(
    ("std", "difference"), [(0.1, 2.5), (0.0, None)], ids=["a spread", "no spread"]
)
def test_difference_is_in_published_standard_deviations(
    std: float, difference: float | None
) -> None:
    value = published(0.5, std)
    (group,) = summarize([run(seed=0, mcc=0.7), run(seed=1, mcc=0.8)], [value])
    figure = group.saes["A"]["mcc"]
    assert figure.published is value
    assert figure.difference == (None if difference is None else pytest.approx(difference))
    assert group.sources == ["a paper"]


@pytest.mark.parametrize(
    "other", [{"world": "x"}, {"sae": "B"}, {"l0": 20.0}, {"metric": "uniqueness"}]
)
def test_published_values_of_something_else_stay_away(other: dict[str, object]) -> None:
    (group,) = summarize([run(mcc=0.7)], [published(0.5, 0.1, **other)])
    assert group.saes["A"]["mcc"].published is None


def test_runs_without_an_l0_have_no_published_values() -> None:
    (group,) = summarize([run(l0=None, mcc=0.7)], [published(0.5, 0.1)])
    assert group.saes["A"]["mcc"].published is None


def test_the_first_of_two_published_values_counts() -> None:
    values = [published(0.5, 0.1), published(0.9, 0.1, source="a later paper")]
    (group,) = summarize([run(mcc=0.7)], values)
    assert group.saes["A"]["mcc"].published == values[0]


def test_a_directory_puts_each_suite_beside_its_own_values(tmp_path: Path) -> None:
    fill(tmp_path, seeds=(0,), l0s=(6.0,))
    database = fill(tmp_path, suite="b", seeds=(0, 1), l0s=(6.0,))
    database.add("b", {"name": "b"}, [])
    groups = summarize_directory(database)
    assert [(group.suite, group.world, group.l0) for group in groups] == [
        ("made-up", WORLD, 6.0),
        ("b", WORLD, 6.0),
    ]
    with_source, without = (group.saes["BatchTopK"]["mcc"] for group in groups)
    assert with_source.published is not None
    assert with_source.published.mean == 0.7574
    assert without.published is None
    assert without.count == 2


def test_an_empty_directory_has_no_groups(tmp_path: Path) -> None:
    assert summarize_directory(RunDatabase(tmp_path, create=True)) == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("Traceback:\n  File x\nValueError: no\n\n", "ValueError: no"),
        ("", "no traceback"),
        (None, "no traceback"),
    ],
)
def test_last_line_of_a_traceback(error: str | None, line: str) -> None:
    assert last_line(error) == line


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("mcc", "MCC"),
        ("classification/precision", "precision"),
        ("true_l0", "true L0"),
        ("f1_all_features", "all-feature F1"),
        ("coverage/0.5", "coverage 0.5"),
        ("by_frequency/0/coverage/0.9", "rarest fifth: coverage 0.9"),
        ("by_frequency/5/f1", "rarest-quarter F1"),
        ("by_frequency/1/f1", "second fifth: F1"),
        ("by_frequency", "by frequency"),
        ("by_frequency/4/mcc", "most frequent fifth: MCC"),
        ("by_frequency/9/mcc", "by frequency 9 MCC"),
        ("null_mcc/uniqueness", "null MCC uniqueness"),
    ],
)
def test_every_figure_has_a_heading(name: str, heading: str) -> None:
    assert metric_heading(name) == heading
