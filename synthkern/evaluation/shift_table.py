"""An SAE in and out of its training's distribution, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from synthkern._table import text_table
from synthkern.evaluation.result import SyntheticDataEvalResult
from synthkern.evaluation.shifted import ShiftedFigures
from synthkern.evaluation.tree import leaves, plain

#: Of the twin's figures and of held-out pairs, before their names in a log.
_SHIFTED, _HELD_OUT = "shifted", "held_out"


class ShiftedRow(NamedTuple):
    """A figure in and out of distribution.

    Attributes:
        figure: its name in a log.
        inside: on the world.
        outside: on its twin.
        difference: outside - inside.
        standard_error: of the difference, the root of the sum of both errors' squares; as both
            are of samples of one seed it is rather too large. None where there is none.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.ShiftedRow("mcc", 0.5, 0.25, -0.25, None).difference
        -0.25
    """

    figure: str
    inside: float
    outside: float
    difference: float
    standard_error: float | None


def shifted_figures(twin: SyntheticDataEvalResult) -> tuple[ShiftedFigures, dict[str, float]]:
    """Of an evaluation on the twin the figures, and the standard errors by their names in the log
    of the world's result, those of held-out pairs too.
    """
    figures = ShiftedFigures(
        twin.true_l0,
        twin.sae_l0,
        twin.dead_latents,
        twin.shrinkage,
        twin.explained_variance,
        twin.classification,
        math.nan if twin.f1_all_features is None else twin.f1_all_features,
    )
    named = {name.removeprefix(f"{_SHIFTED}/"): name for name, _ in _leaves(figures)}
    errors = {}
    for name, error in twin.standard_errors.items():
        if name in named:
            errors[named[name]] = error
        elif name.startswith(f"{_HELD_OUT}/"):
            errors[name] = error
    return figures, errors


def shifted_rows(result: SyntheticDataEvalResult) -> list[ShiftedRow]:
    """The figures of an evaluation that both a world and its twin have; none without a twin.

    Example:
        >>> import synthkern as synthetic
        >>> shift = synthetic.ShiftConfig(rate_factor=0.5)
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(4, 8, shift=shift, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> parts = sae, model.feature_dict, model.activation_generator
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     *parts, 1000, seed=0, shifted_generator=model.shifted().activation_generator
        ... )
        >>> row = synthetic.shifted_rows(result)[0]
        >>> row.figure, row.difference < 0
        ('true_l0', True)
    """
    if result.shifted is None:
        return []
    inside = result.to_log_dict()
    rows = []
    for name, outside in _leaves(result.shifted):
        figure = name.removeprefix(f"{_SHIFTED}/")
        if figure not in inside:
            continue
        each = [result.standard_errors.get(key) for key in (figure, name)]
        errors = [error for error in each if error is not None]
        error = math.hypot(*errors) if len(errors) == 2 else None
        rows.append(ShiftedRow(figure, inside[figure], outside, outside - inside[figure], error))
    return rows


def shifted_table(result: SyntheticDataEvalResult) -> Iterator[str]:
    """The lines of a table of both, and of held-out pairs; none without a twin."""
    rows: list[tuple[str, ...]] = []
    rows.append(
        ("figure", "in distribution", "out of distribution", "difference", "standard error")
    )
    for row in shifted_rows(result):
        numbers = (_shown(x) for x in (row.inside, row.outside))
        error = "" if row.standard_error is None else f"{row.standard_error:.2g}"
        rows.append((row.figure, *numbers, _shown(row.difference, "+"), error))
    if len(rows) == 1:
        return
    yield from text_table(rows, "<")
    if result.held_out is not None:
        yield ""
        yield from text_table(list(_held_out(plain(result.held_out), result)), "<")


def _held_out(
    figures: Mapping[str, float], result: SyntheticDataEvalResult
) -> Iterator[tuple[str, ...]]:
    yield "held-out pairs", "value", "standard error"
    for name, value in figures.items():
        error = result.standard_errors.get(f"{_HELD_OUT}/{name}")
        yield name, f"{value:.4f}", "" if error is None else f"{error:.2g}"


def _leaves(figures: ShiftedFigures) -> Iterator[tuple[str, float]]:
    yield from leaves(_SHIFTED, plain(figures))


def _shown(number: float, sign: str = "") -> str:
    return f"{number:{sign},}" if isinstance(number, int) else f"{number:{sign}.4f}"
