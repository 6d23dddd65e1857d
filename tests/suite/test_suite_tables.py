"""Tables of results for the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import fill
from suite_runs import run

from synthkern.suite.published import Published
from synthkern.suite.summary import summarize, summarize_directory
from synthkern.suite.tables import tables

SOURCE = "somebody's paper, table 2"
PUBLISHED = [
    Published(SOURCE, "world", "A", 25.0, "mcc", 0.5, 0.1, world_fingerprint=64 * "a"),
    Published(SOURCE, "world", "A", 25.0, "sae_l0", 25.0, 0.0, world_fingerprint=64 * "a"),
]

ALL = {
    "f1": 0.75,
    "mcc": 0.7,
    "uniqueness": 0.9,
    "explained_variance": 0.8,
    "sae_l0": 25.5,
    "dead_latents": 1234.0,
}


def test_a_whole_table() -> None:
    runs = [run(seed=0, **ALL), run(seed=1, **{**ALL, "mcc": 0.8, "dead_latents": 1236.0})]
    runs.append(run("Another", 0, **ALL))
    text = tables(summarize(runs, PUBLISHED))
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "world, L0 = 25",
        "mean ± standard deviation over 1 to 2 seeds; sd: published standard deviations",
        "",
        "explained dead",
        "F1 MCC uniqueness variance L0 latents",
        "A 0.7500 ± 0.0000 0.7500 ± 0.0707 0.9000 ± 0.0000 0.8000 ± 0.0000 25.50 ± 0.00 "
        "1,235.0 ± 1.4",
        "published 0.5000 ± 0.1000 25.00 ± 0.00",
        "difference +2.5 sd",
        "Another 0.7500 0.7000 0.9000 0.8000 25.50 1,234.0",
        "",
        f"published: {SOURCE}",
    ]


def test_what_belongs_together_ends_in_one_column() -> None:
    text = tables(summarize([run(seed=seed, **ALL) for seed in (0, 1)], PUBLISHED))
    ends = [
        line.index(word) + len(word)
        for line, word in zip(
            text.splitlines()[4:8], ("MCC", "0.7000 ± 0.0000", "0.5000 ± 0.1000", "sd"), strict=True
        )
    ]
    assert len(set(ends)) == 1


def test_without_published_values_nothing_speaks_of_them() -> None:
    text = tables(summarize([run(seed=seed, mcc=0.7) for seed in (0, 1, 2)]))
    assert "mean ± standard deviation over 3 seeds\n" in text
    assert "published" not in text
    assert "sd" not in text


def test_one_seed_has_means_alone() -> None:
    text = tables(summarize([run(mcc=0.7)], PUBLISHED[:1]))
    assert text.splitlines()[1] == "1 seed; sd: published standard deviations"
    assert "0.7000" in text.splitlines()[5]
    assert "±" not in text.splitlines()[5]
    assert "+2.0 sd" in text


def test_missing_figures_are_dashes() -> None:
    text = tables(summarize([run(mcc=0.7), run("B", state="pending")]))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[5:7]}
    assert rows == {"A": ["-", "0.7000", "-", "-", "-", "-"], "B": ["-"] * 6}


def test_runs_that_are_not_done_are_counted_and_failures_explained() -> None:
    error = "Traceback (most recent call last):\n  File x\nMemoryError: out of memory\n"
    runs = [
        run("A", 0, mcc=0.7),
        run("A", 1, state="failed", error=error),
        run("A", 2, state="failed", error=error),
        run("A", 3, state="failed", error="ValueError: NaN"),
        run("A", 4, state="running"),
        run("B", 0, state="pending"),
        run("C", 0, mcc=0.7),
    ]
    assert tables(summarize(runs)).splitlines()[-4:] == [
        "A: of 5 runs 1 running, 1 done, 3 failed",
        "B: of 1 run 1 pending",
        "A, seeds 1, 2, failed: MemoryError: out of memory",
        "A, seed 3, failed: ValueError: NaN",
    ]


def test_a_group_without_finished_runs_says_so() -> None:
    text = tables(summarize([run(state="pending")]))
    assert text.splitlines()[1] == "no run is done yet"


def test_figures_that_are_not_finite_are_counted() -> None:
    runs = [run(seed=0, **ALL), run(seed=1, **{**ALL, "mcc": None})]
    text = tables(summarize(runs))
    assert text.splitlines()[-1] == "A: MCC is finite in 1 of 2 runs"


def test_suites_are_named_where_there_are_several() -> None:
    runs = [run(mcc=0.7), run(suite="other", l0=None, mcc=0.7)]
    blocks = tables(summarize(runs)).split("\n\n")
    assert [block.splitlines()[0] for block in blocks[::2]] == [
        "mine: world, L0 = 25",
        "other: world",
    ]


LONG = "an SAE with a name that is longer than the column of names"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_the_terminal_says_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = summarize([run(seed=seed, **ALL) for seed in (0, 1)])
    monkeypatch.setenv("COLUMNS", "60")
    assert tables(groups) == tables(groups, width=60) != tables(groups, width=120)


@pytest.mark.parametrize("width", [120, 80, 60])
def test_tables_keep_to_the_width(width: int) -> None:
    runs = [run(sae, seed, **ALL) for sae in ("Matryoshka BatchTopK", LONG, "A") for seed in (0, 1)]
    runs.append(run("A", 2, state="failed", error="ValueError: " + 50 * "too long "))
    lines = tables(summarize(runs, PUBLISHED), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines.count(LONG) == (1 if width == 120 else 2 if width == 80 else 3)
    # Each figure is in one block.
    assert sum("0.8000 ± 0.0000" in line for line in lines) == 3


def test_rows_that_say_nothing_in_a_block_are_left_out() -> None:
    lines = tables(summarize([run(seed=0, **ALL)], PUBLISHED[:1]), width=40).splitlines()
    assert sum(line.startswith("A ") for line in lines) == 3
    assert sum("published" in line for line in lines[3:-1]) == 1


def test_no_runs() -> None:
    assert tables([]) == "no runs"


def test_a_directory(tmp_path: Path) -> None:
    text = tables(summarize_directory(fill(tmp_path)))
    assert text.count("synth-sae-bench-1k, L0 = ") == 2
    assert text.count("published: a made-up paper") == 1
    assert max(map(len, text.splitlines())) <= 120
