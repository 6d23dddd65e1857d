"""Paired comparisons: intervals, corrections and sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from suite_runs import run

from synthkern.suite.comparison import (
    Comparison,
    Difference,
    compare_directories,
    compare_saes,
    correct,
    difference,
)
from synthkern.suite.comparison_text import comparison_text, sentence_of
from synthkern.suite.database import Run


@pytest.mark.parametrize("pairs", [2, 3, 5, 20])
def test_interval_and_p_value_are_those_of_the_paired_t_test(pairs: int) -> None:
    draws = np.random.default_rng(pairs)
    a = draws.normal(0.7, 0.1, pairs)
    b = a + draws.normal(0.01, 0.01, pairs)
    found, expected = difference(a.tolist(), b.tolist()), stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("pairs", [2, 3, 5, 20])
def test_the_detectable_difference_is_found_in_four_of_five_cases(pairs: int) -> None:
    draws = np.random.default_rng(pairs)
    values = draws.normal(0.01, 0.01, pairs)
    found = difference(values.tolist(), [0.0] * pairs)
    assert found.detectable is not None
    # Whatever the mean is, the spread decides.
    shifted = difference((values + 5).tolist(), [0.0] * pairs)
    assert shifted.detectable == pytest.approx(found.detectable)
    # Many comparisons of as many pairs, of which the true spread is the one found here.
    cases = draws.normal(found.detectable, np.std(values, ddof=1), (40_000, pairs))
    p_values = stats.ttest_1samp(cases, 0.0, axis=1).pvalue
    assert float((p_values < 0.05).mean()) == pytest.approx(0.8, abs=4 * 0.4 / 200)


def test_nothing_is_detectable_without_a_spread() -> None:
    assert difference([1.0], [0.5]).detectable is None
    assert difference([3.0, 5.0], [2.0, 4.0]).detectable is None


def test_holm_by_hand() -> None:
    p_values = {"a": 0.03, "b": 0.01, "c": None, "d": 0.04, "e": 0.6}
    found = correct({name: Difference(3, 1.0, 0.0, 2.0, p) for name, p in p_values.items()})
    # 0.01 x 4, 0.03 x 3, then 0.04 x 2 is less than what came before it, and 0.6 x 1.
    assert [each.corrected for each in found.values()] == pytest.approx(
        [0.09, 0.04, None, 0.09, 0.6]
    )
    assert [each.verdict for each in found.values()] == [
        "unclear",
        "higher",
        "constant",
        "unclear",
        "unclear",
    ]
    largest = correct({name: Difference(3, 1.0, 0.0, 2.0, 0.7) for name in "ab"})
    assert [each.corrected for each in largest.values()] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "partners", "verdict"),
    [
        ([1.0], [0.5], "one pair"),
        ([0.5], [0.5], "one pair"),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "same"),
        ([0.0, 0.0], [0.0, 0.0], "same"),
        # Last digits apart only.
        ([0.3, 0.6], [0.1 + 0.2, 0.2 + 0.4], "same"),
        ([3.0, 5.0], [2.0, 4.0], "constant"),
        ([0.3, 0.9], [0.2, 0.8], "constant"),
        ([1.00, 1.01, 0.99], [0.0, 0.0, 0.0], "higher"),
        ([0.0, 0.0, 0.0], [1.00, 1.01, 0.99], "lower"),
        ([1.0, -1.0, 0.5], [0.0, 0.0, 0.0], "unclear"),
    ],
)
def test_verdicts(values: list[float], partners: list[float], verdict: str) -> None:
    found = correct({"mcc": difference(values, partners)})["mcc"]
    assert found.verdict == verdict
    told = verdict in ("higher", "lower", "unclear")
    assert (found.low is not None, found.high is not None, found.p_value is not None) == (told,) * 3


def of_seeds(sae: str, values: list[float | None], l0: float | None = 25.0) -> list[Run]:
    return [run(sae, seed, l0, mcc=value) for seed, value in enumerate(values)]


def test_directories_are_paired_by_world_l0_seed_and_sae() -> None:
    first = [
        *of_seeds("A", [0.5, 0.6]),
        *of_seeds("A", [0.1, 0.2], None),
        run("B", 0, mcc=0.3),
        run("A", 7, mcc=0.3),
        run("A", 0, world="elsewhere", mcc=0.3),
    ]
    second = [
        run("A", 1, mcc=0.5),
        run("A", 0, mcc=0.2),
        *of_seeds("A", [0.1, 0.2], None),
        run("B", 0, 20.0, mcc=0.3),
        run("A", 0, mcc=0.3, suite="other", world="third"),
    ]
    pairing = compare_directories(first, second)
    assert [(each.l0, each.first, each.pairs) for each in pairing.comparisons] == [
        (25.0, "A", 2),
        (None, "A", 2),
    ]
    assert pairing.comparisons[0].differences["mcc"].mean == pytest.approx(0.2)
    assert pairing.comparisons[1].differences["mcc"].verdict == "same"
    assert pairing.alone == (first[4:], second[4:])


def test_saes_are_paired_by_world_l0_and_seed() -> None:
    pairing = compare_saes(of_seeds("A", [0.5, 0.6, 0.7]), of_seeds("B", [0.4, 0.4]))
    (found,) = pairing.comparisons
    assert (found.first, found.second, found.pairs) == ("A", "B", 2)
    assert found.differences["mcc"].mean == pytest.approx(0.15)
    assert [each.seed for each in pairing.alone[0]] == [2]
    assert pairing.alone[1] == []


def test_runs_that_are_not_done_have_no_part() -> None:
    first = [run(seed=0, mcc=0.5), run(seed=1, mcc=0.5), run(seed=2, state="failed")]
    second = [run(seed=0, mcc=0.4), run(seed=1, state="pending"), run(seed=2, mcc=0.4)]
    pairing = compare_directories(first, second)
    assert [each.pairs for each in pairing.comparisons] == [1]
    assert pairing.alone == (first[1:2], second[2:])


def test_pairs_without_a_figure_on_both_sides_are_left_out_of_it() -> None:
    first = [run(seed=seed, mcc=0.5 + seed, f1=0.5) for seed in (0, 1, 2)]
    second = [run(seed=seed, mcc=0.5 if seed else None) for seed in (0, 1, 2)]
    (found,) = compare_directories(first, second).comparisons
    assert found.pairs == 3
    assert found.differences.keys() == {"mcc"}
    assert found.differences["mcc"].pairs == 2
    assert found.differences["mcc"].mean == 1.5


def test_one_place_in_two_suites_is_refused() -> None:
    twice = [run(suite="a", mcc=0.5), run(suite="b", mcc=0.5)]
    with pytest.raises(
        ValueError, match=r"suites a and b both have A on world, L0 = 25, with seed 0: .*--suite"
    ):
        compare_directories(twice, [])


def described(first: dict[str, list[float]], second: dict[str, list[float]]) -> str:
    """The sentence on A and B with these figures by seed."""
    sides = []
    for sae, figures in (("A", first), ("B", second)):
        count = max(map(len, figures.values()))
        sides.append(
            [
                run(sae, seed, **{name: each[seed] for name, each in figures.items()})
                for seed in range(count)
            ]
        )
    (comparison,) = compare_saes(*sides).comparisons
    return sentence_of(comparison, "A", "B")


def test_a_sentence_says_what_is_told_apart_and_what_is_not() -> None:
    first = {
        "f1": [0.80, 0.81, 0.82],
        "mcc": [0.50, 0.52, 0.51],
        "uniqueness": [0.9, 0.9, 0.9],
        "explained_variance": [0.50, 0.51, 0.52],
        "sae_l0": [25.0, 26.0, 27.0],
        "dead_latents": [10.0, 20.0, 30.0],
    }
    second = {
        "f1": [0.70, 0.71, 0.721],
        "mcc": [0.51, 0.50, 0.52],
        "uniqueness": [0.9, 0.9, 0.9],
        "explained_variance": [0.60, 0.61, 0.621],
        "sae_l0": [24.0, 25.0, 26.0],
        "dead_latents": [1010.0, 1021.0, 1030.0],
    }
    assert described(first, second) == (
        "At L0 = 25 on world (3 pairs), A has a higher F1 than B by 0.0997 (95% CI 0.0982 to "
        "0.1011), a lower explained variance by 0.1003 (95% CI 0.0989 to 0.1018) and fewer dead "
        "latents by 1,000.3 (95% CI 998.9 to 1,001.8); their MCC (difference 0.000, 95% CI -0.043 "
        "to 0.043, detectable 0.057) cannot be told apart at this number of seeds; their "
        "uniqueness is the same; their L0 (difference 1) differs by as much in every pair, which "
        "leaves no spread to judge by."
    )


def test_sentences_on_figures_that_are_not_told_apart() -> None:
    values = [0.1, 0.2, 0.3]
    assert described({"mcc": values, "dead_latents": values}, {"mcc": values}) == (
        "At L0 = 25 on world (3 pairs), MCC of A and B is the same."
    )
    assert described({"dead_latents": values}, {"dead_latents": values}) == (
        "At L0 = 25 on world (3 pairs), dead latents of A and B are the same."
    )
    assert described({"mcc": values[:1], "f1": [1.0]}, {"mcc": [0.3], "f1": [1.0]}) == (
        "At L0 = 25 on world (1 pair), one pair of runs cannot tell whether F1 (difference 0) and "
        "MCC (difference -0.2) of A and B differ."
    )
    assert described({"mcc": values}, {"f1": values}) == (
        "At L0 = 25 on world (3 pairs), no pair of A and B has a figure on both sides."
    )


def test_a_sentence_on_an_interval_without_0_that_is_one_of_several() -> None:
    # The p-value of the first is 0.04: enough alone, but not for one of two.
    differences = correct(
        {
            "mcc": Difference(4, 0.02, 0.001, 0.039, 0.04),
            "sae_l0": Difference(5, -0.01, -1.01, 0.99, 0.9),
        }
    )
    comparison = Comparison("world", None, "A", "B", 5, differences, False, False)
    assert sentence_of(comparison, "A", "B") == (
        "On world (5 pairs), MCC (difference 0.020, 95% CI 0.001 to 0.039, 4 pairs, which is too "
        "little for one of 2 figures) and L0 (difference 0.0, 95% CI -1.0 to 1.0) of A and B "
        "cannot be told apart at this number of seeds."
    )


def table_of(text: str) -> dict[str, list[str]]:
    """The first table's cells by row."""
    rows = text.split("\n\n")[1].splitlines()[1:]
    return {row[: row.index("  ")]: row[row.index("  ") :].split() for row in rows}


def test_the_text_of_two_directories() -> None:
    first = [run(seed=seed, mcc=0.5 + 0.1 * seed, f1=0.5) for seed in range(3)]
    second = [run(seed=seed, mcc=0.1 * seed + 0.001 * seed, f1=0.5) for seed in range(3)]
    first += [run("B", seed) for seed in range(14)]
    second += [run(seed=3), run(l0=None)]
    text = comparison_text(compare_directories(first, second), ("old", "new"), width=120)
    assert text.startswith("world, L0 = 25: A of old minus A of new\n\n")
    assert table_of(text) == {
        "F1": ["3", "0"],
        "MCC": ["3", "+0.4990", "+0.4965", "to", "+0.5015", "<0.0001", "0.0033"],
    }
    unwrapped = " ".join(text.split())
    assert (
        "A of old has a higher MCC than A of new by 0.4990 (95% CI 0.4965 to 0.5015)" in unwrapped
    )
    assert "for the number of comparisons." in unwrapped
    assert unwrapped.endswith(
        "16 runs have no partner: B of old on world, L0 = 25, seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, "
        "10, 11, and 2 more; A of new on world, L0 = 25, seed 3; A of new on world, seed 0"
    )
    assert "Mind" not in text


def test_one_run_without_a_partner() -> None:
    pairing = compare_saes(of_seeds("A", [0.5]), of_seeds("B", [0.5, 0.6]))
    text = comparison_text(pairing, width=120)
    assert text.startswith("world, L0 = 25: A minus B\n")
    assert text.endswith("1 run has no partner: B on world, L0 = 25, seed 1")


def test_other_worlds_and_other_streams_are_told() -> None:
    first = [run(config={"synthetic_model": {"num_features": 10}}, mcc=0.5)]
    second = [run(config={"synthetic_model": {"num_features": 11}}, mcc=0.5)]
    text = comparison_text(compare_directories(first, second), ("a", "b"), width=120)
    assert "the configs of world are not the same on both sides." in text
    assert "streams" not in text
    second = [replace(first[0], stream_version=2)]
    text = comparison_text(compare_directories(first, second), ("a", "b"), width=120)
    assert "streams have different versions" in text
    assert "configs" not in text


@pytest.mark.parametrize("width", [120, 70])
def test_the_text_keeps_to_the_width(width: int) -> None:
    first = {name: [0.1, 0.2, 0.3] for name in ("f1", "mcc", "uniqueness", "explained_variance")}
    second: dict[str, Any] = {name: [0.1, 0.1, 0.1] for name in first}
    pairing = compare_saes(
        [run("A", seed, **{k: v[seed] for k, v in first.items()}) for seed in range(3)],
        [run("B", seed, **{k: v[seed] for k, v in second.items()}) for seed in range(3)],
    )
    assert max(map(len, comparison_text(pairing, width=width).splitlines())) <= width
