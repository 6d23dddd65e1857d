"""Comparisons of runs in print: a table and a sentence each, and what had no partner."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from synthkern.suite.comparison import CONFIDENCE, POWER, Comparison, Difference, Pairing, Verdict
from synthkern.suite.database import Run
from synthkern.suite.summary import metric_heading, place_name
from synthkern.suite.tables import layout, terminal_width

_HEADINGS = {
    "pairs": "pairs",
    "difference": "difference",
    "interval": f"{CONFIDENCE:.0%} CI",
    "corrected": "p (Holm)",
    "detectable": "detectable",
}

#: Figures that are counts of things, in the plural.
_COUNTS = {"dead_latents"}

#: Most names in a list.
_NAMED = 12

#: How the figures are to be read.
_FOOT = (
    "Intervals are Student's t over the pairs' differences, for each figure alone. Verdicts are at "
    f"the {1 - CONFIDENCE:.0%} level after Holm's correction for the figures of a comparison; "
    "nothing is corrected for the number of comparisons. Detectable is the least true difference "
    f"that as many pairs of as great a spread tell from none in {POWER:.0%} of cases, at the "
    f"two-sided {1 - CONFIDENCE:.0%} level for a figure alone."
)


def comparison_text(
    pairing: Pairing, directories: tuple[str, str] | None = None, *, width: int | None = None
) -> str:
    """All comparisons, each a table and a sentence, and the runs that have no partner.

    Args:
        pairing: one comparison at least.
        directories: names of the first and the second runs' directories, where these are two.
        width: columns to keep to; None is the terminal's, or 120 where there is none.
    """
    width = width or terminal_width()
    blocks = []
    for each in pairing.comparisons:
        first, second = _names(each, directories)
        headline = f"{place_name(each.world, each.l0)}: {first} minus {second}"
        table = layout(list(_rows(each)), _HEADINGS, width)
        sentence = _wrap(sentence_of(each, first, second), width)
        blocks.append("\n".join([headline, "", *table, "", sentence]))
    blocks.append(_wrap(_FOOT, width))
    blocks += [_wrap(warning, width) for warning in _warnings(pairing)]
    alone = list(_alone(pairing, directories or ("", "")))
    if alone:
        count = sum(map(len, pairing.alone))
        have = "run has" if count == 1 else "runs have"
        blocks.append(_wrap(f"{count:,} {have} no partner: {_some(alone, '; ')}", width))
    return "\n\n".join(blocks)


def sentence_of(comparison: Comparison, first: str, second: str) -> str:
    """What can and what cannot be told apart, in words.

    Args:
        comparison: of the first's figures minus the second's.
        first: what the first is called.
        second: what the second is called.
    """
    by_verdict: dict[Verdict, list[str]] = {}
    for metric, each in comparison.differences.items():
        by_verdict.setdefault(each.verdict, []).append(metric)
    clauses: list[str] = []

    def subject(metrics: Sequence[str], detail: bool = True) -> str:
        named = [
            metric_heading(name) + (f" ({_detail(comparison, name)})" if detail else "")
            for name in metrics
        ]
        return f"their {_and(named)}" if clauses else f"{_and(named)} of {first} and {second}"

    told = [name for name, each in comparison.differences.items() if _is_told(each)]
    if told:
        parts = [_told(comparison, name, f" than {second}" * (name == told[0])) for name in told]
        clauses.append(f"{first} has {_and(parts)}")
    if unclear := by_verdict.get("unclear"):
        clauses.append(f"{subject(unclear)} cannot be told apart at this number of seeds")
    if same := by_verdict.get("same"):
        are = "are" if _plural(same) else "is"
        clauses.append(f"{subject(same, detail=False)} {are} the same")
    if constant := by_verdict.get("constant"):
        differ = "differ" if _plural(constant) else "differs"
        clauses.append(
            f"{subject(constant)} {differ} by as much in every pair, which leaves no spread to "
            "judge by"
        )
    if single := by_verdict.get("one pair"):
        clauses.append(
            f"one pair of runs cannot tell whether {subject(single)} "
            f"{'differ' if _plural(single) else 'differs'}"
        )
    if not clauses:
        clauses.append(f"no pair of {first} and {second} has a figure on both sides")
    at = "On" if comparison.l0 is None else f"At L0 = {comparison.l0:g} on"
    return f"{at} {comparison.world} ({_pairs(comparison.pairs)}), {'; '.join(clauses)}."


def _plural(metrics: Sequence[str]) -> bool:
    return len(metrics) > 1 or metrics[0] in _COUNTS


def _is_told(difference: Difference) -> bool:
    return difference.verdict in ("higher", "lower")


def _told(comparison: Comparison, metric: str, than: str) -> str:
    """ "a higher F1 than B by 0.148 (95% CI 0.144 to 0.151)"."""
    each, heading = comparison.differences[metric], metric_heading(metric)
    assert each.low is not None
    assert each.high is not None
    higher = each.mean > 0
    if metric in _COUNTS:
        what = f"{'more' if higher else 'fewer'} {heading}"
    else:
        what = f"a {'higher' if higher else 'lower'} {heading}"
    ends = (each.low, each.high) if higher else (-each.high, -each.low)
    decimals = _decimals(each)
    by, low, high = (f"{value:,.{decimals}f}" for value in (abs(each.mean), *ends))
    interval = f"{CONFIDENCE:.0%} CI {low} to {high}{_other_pairs(comparison, each)}"
    return f"{what}{than} by {by} ({interval})"


def _detail(comparison: Comparison, metric: str) -> str:
    """ "difference 0.0003, 95% CI -0.0005 to 0.0011"."""
    each = comparison.differences[metric]
    text = f"difference {_number(each, each.mean)}"
    if each.low is not None and each.high is not None:
        text += (
            f", {CONFIDENCE:.0%} CI {_number(each, each.low)} to {_number(each, each.high)}"
            f"{_other_pairs(comparison, each)}"
        )
        if each.detectable is not None:
            text += f", detectable {_number(each, each.detectable)}"
        if each.low > 0 or each.high < 0:
            tested = [d for d in comparison.differences.values() if d.p_value is not None]
            text += f", which is too little for one of {len(tested)} figures"
        return text
    return text + _other_pairs(comparison, each)


def _other_pairs(comparison: Comparison, difference: Difference) -> str:
    """How many pairs have the figure, where it is not all."""
    return "" if difference.pairs == comparison.pairs else f", {_pairs(difference.pairs)}"


def _rows(comparison: Comparison) -> Iterator[tuple[str, dict[str, str]]]:
    for metric, each in comparison.differences.items():
        texts = {"pairs": f"{each.pairs}", "difference": _number(each, each.mean, "+")}
        if each.low is not None and each.high is not None:
            ends = (_number(each, value, "+") for value in (each.low, each.high))
            texts["interval"] = " to ".join(ends)
        if each.corrected is not None:
            texts["corrected"] = f"{each.corrected:.4f}" if each.corrected >= 1e-4 else "<0.0001"
        if each.detectable is not None:
            texts["detectable"] = _number(each, each.detectable)
        yield metric_heading(metric), texts


def _number(difference: Difference, value: float, sign: str = "") -> str:
    if difference.low is None:
        return f"{value:{sign},.4g}" if value else "0"
    decimals = _decimals(difference)
    # The sum with 0 has no sign where nothing is left of a number below it.
    return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}"


def _decimals(difference: Difference) -> int:
    """So many that the interval's half width has two digits."""
    assert difference.low is not None
    assert difference.high is not None
    half = (difference.high - difference.low) / 2
    return min(max(1 - math.floor(math.log10(half)), 0), 12)


def _names(comparison: Comparison, directories: tuple[str, str] | None) -> tuple[str, str]:
    if directories is None:
        return comparison.first, comparison.second
    return f"{comparison.first} of {directories[0]}", f"{comparison.second} of {directories[1]}"


def _warnings(pairing: Pairing) -> Iterator[str]:
    worlds = {each.world for each in pairing.comparisons if each.other_worlds}
    if worlds:
        yield f"Mind that the configs of {_and(sorted(worlds))} are not the same on both sides."
    if any(each.other_streams for each in pairing.comparisons):
        yield (
            "Mind that the streams have different versions: the same seed gave other samples on "
            "both sides."
        )


def _alone(pairing: Pairing, directories: tuple[str, str]) -> Iterator[str]:
    for runs, directory in zip(pairing.alone, directories, strict=True):
        of = f" of {directory}" if directory else ""
        seeds: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            seeds.setdefault((run.sae, place_name(run.world, run.l0)), []).append(run)
        for (sae, place), found in seeds.items():
            named = _some([str(run.seed) for run in found], ", ")
            yield f"{sae}{of} on {place}, seed{'s' * (len(found) > 1)} {named}"


def _some(names: Sequence[str], between: str) -> str:
    more = f"{between}and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count > 1)}"


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
