"""Paired comparisons of runs: differences with confidence intervals and corrected verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from synthkern.suite.database import Run
from synthkern.suite.summary import SHARED_METRICS, finite_metrics, place_name, table_metrics

#: Share of intervals that hold the true difference; a verdict errs with what is left of 1.
CONFIDENCE = 0.95

#: Share of comparisons in which a difference of the detectable size is found.
POWER = 0.8

#: A difference or a spread of this share of what is compared is rounding.
_ROUNDING = 1e-12

#: On one world it is the MCC in other units: corrected for too, it would only hide others.
_SAME_AS_MCC = "null_mcc/calibrated_mcc"

#: What can be said of a difference.
Verdict = Literal["higher", "lower", "unclear", "same", "constant", "one pair"]

#: World, L0, seed and SAE.
_Place = tuple[str, float | None, int, str]


@dataclass(frozen=True)
class Difference:
    """One figure of the first runs minus that of their partners.

    Attributes:
        pairs: how many have it on both sides, finite.
        mean: over pairs.
        low: lower end of the mean's 95% confidence interval by Student's t, of this figure alone;
            None where the differences have no spread to judge by: fewer than two, or all equal.
        high: its upper end, or None.
        p_value: of Student's t-test for no difference, or None.
        corrected: the same after Holm's correction for all figures of the comparison, or None.
        detectable: the least true difference that this t-test, of this figure alone at the
            two-sided 5% level, finds in 80% of comparisons of as many pairs whose differences
            spread as these do (Cohen 1988, "Statistical Power Analysis"), or None. It follows from
            the spread and says nothing of the difference that was found: where that is "unclear",
            a true one of this size would most often not have been.
    """

    pairs: int
    mean: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    corrected: float | None = None
    detectable: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What can be said, by the corrected p-value where there is one.

        "same" and "constant" where all differences, of two pairs at least, are 0 or another
        number.
        """
        if self.pairs < 2:
            return "one pair"
        if self.corrected is None:
            return "constant" if self.mean else "same"
        if self.corrected > 1 - CONFIDENCE:
            return "unclear"
        return "higher" if self.mean > 0 else "lower"


@dataclass(frozen=True)
class Comparison:
    """The pairs of runs of a world, an L0 and an SAE or two.

    Attributes:
        world: its name.
        l0: that was asked for, or None.
        first: name of the SAE whose figures' differences these are.
        second: name of the other, which may be the same.
        pairs: how many.
        differences: first minus second by metric, of those of :func:`table_metrics` that some
            pair has, but for the MCC above chance.
        other_worlds: whether the worlds of that name are configured unalike in some pair.
        other_streams: whether the same seed means other samples in some pair, as the stream has
            another version.
    """

    world: str
    l0: float | None
    first: str
    second: str
    pairs: int
    differences: dict[str, Difference]
    other_worlds: bool
    other_streams: bool


@dataclass(frozen=True)
class Pairing:
    """What there is to compare.

    Attributes:
        comparisons: in the first runs' order.
        alone: finished runs of each side without a finished partner.
    """

    comparisons: list[Comparison]
    alone: tuple[list[Run], list[Run]]


def compare_directories(first: Sequence[Run], second: Sequence[Run]) -> Pairing:
    """Pair the finished runs of two directories by world, L0, seed and SAE.

    Raises:
        ValueError: where two runs of a side are in the same place.
    """
    return _compare(first, second, lambda run: run.sae)


def compare_saes(first: Sequence[Run], second: Sequence[Run]) -> Pairing:
    """Pair the finished runs of two SAEs by world, L0 and seed.

    Raises:
        ValueError: where two runs of a side are in the same place.
    """
    return _compare(first, second, lambda run: "")


def difference(values: Sequence[float], partners: Sequence[float]) -> Difference:
    """The mean of paired differences and its interval; see :class:`Difference`.

    Args:
        values: one at least.
        partners: as many.
    """
    differences = [a - b for a, b in zip(values, partners, strict=True)]
    pairs = len(differences)
    rounding = _ROUNDING * max(map(abs, (*values, *partners)))
    mean = math.fsum(differences) / pairs
    if abs(mean) <= rounding:
        mean = 0.0
    if pairs == 1:
        return Difference(pairs, mean)
    variance = math.fsum((each - mean) ** 2 for each in differences) / (pairs - 1)
    error = math.sqrt(variance / pairs)
    if error <= rounding:
        return Difference(pairs, mean)
    # Here, as it takes every command 0.2 s of its start elsewhere.
    from scipy import special

    freedom = pairs - 1
    critical = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
    half = error * critical
    p_value = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    # The noncentrality at which Student's t is above the critical value so often; that it is below
    # the negative one besides happens in less than one of a million.
    detectable = error * float(special.nctdtrinc(freedom, 1 - POWER, critical))
    return Difference(pairs, mean, mean - half, mean + half, p_value, detectable=detectable)


def correct(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The same with p-values corrected by Holm's method, for as many as have one."""
    p_values = {
        name: each.p_value for name, each in differences.items() if each.p_value is not None
    }
    corrected, largest = dict(differences), 0.0
    for number, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - number)))
        corrected[name] = replace(differences[name], corrected=largest)
    return corrected


def _compare(first: Sequence[Run], second: Sequence[Run], label: Callable[[Run], str]) -> Pairing:
    places, partners = _by_place(first, label), _by_place(second, label)
    grouped: dict[tuple[str, float | None, str], list[tuple[Run, Run]]] = {}
    for place, run in places.items():
        if place in partners:
            grouped.setdefault((run.world, run.l0, label(run)), []).append((run, partners[place]))
    return Pairing(
        [_comparison(pairs) for pairs in grouped.values()],
        (
            [run for place, run in places.items() if place not in partners],
            [run for place, run in partners.items() if place not in places],
        ),
    )


def _by_place(runs: Sequence[Run], label: Callable[[Run], str]) -> dict[_Place, Run]:
    found: dict[_Place, Run] = {}
    for run in runs:
        if run.state != "done":
            continue
        place = (run.world, run.l0, run.seed, label(run))
        if place in found:
            suites = sorted({run.suite, found[place].suite})
            raise ValueError(
                f"the suites {' and '.join(suites)} both have {run.sae} on "
                f"{place_name(run.world, run.l0)}, with seed {run.seed}: choose one with --suite"
            )
        found[place] = run
    return found


def _comparison(pairs: Sequence[tuple[Run, Run]]) -> Comparison:
    columns: dict[str, list[tuple[float, float]]] = {}
    for first, second in pairs:
        partner = dict(finite_metrics(second))
        for metric, value in finite_metrics(first):
            if metric in partner:
                columns.setdefault(metric, []).append((value, partner[metric]))
    for metric in SHARED_METRICS & columns.keys():
        # The seeds' own differences are not independent: that of the means is one alone.
        first_mean, second_mean = (
            math.fsum(each) / len(each) for each in zip(*columns[metric], strict=True)
        )
        columns[metric] = [(first_mean, second_mean)]
    differences = {
        metric: difference(*zip(*columns[metric], strict=True))
        for metric in table_metrics(columns)
        if metric in columns and metric != _SAME_AS_MCC
    }
    first, second = pairs[0]
    return Comparison(
        world=first.world,
        l0=first.l0,
        first=first.sae,
        second=second.sae,
        pairs=len(pairs),
        differences=correct(differences),
        other_worlds=any(
            a.config.get("synthetic_model") != b.config.get("synthetic_model") for a, b in pairs
        ),
        other_streams=any(a.stream_version != b.stream_version for a, b in pairs),
    )
