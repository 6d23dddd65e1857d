"""Training curves: rows of figures by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from synthkern.storage.files import errors_naming, read_json, write_json
from synthkern.storage.paths import AnyPath, as_path

#: One row: ``step`` and ``samples`` trained before it was taken, and figures by name.
Row = dict[str, float]


class TrainingHistory:
    """The rows of a training, in order.

    A row of a training step has ``step``, ``samples``, ``loss``, ``losses/<name>``, ``l0``,
    ``explained_variance`` (of its batch), ``lr``, ``dead_latents``, ``mean_steps_since_fired``,
    ``coefficients/<name>``, ``metrics/<name>`` and ``samples_per_second``; one of an evaluation
    ``eval/<name>``; one of a full window of firings ``mean_log10_feature_sparsity``,
    ``below_1e-5`` and ``below_1e-6`` (numbers of latents). What is not finite is left out.

    Example:
        >>> import synthkern as synthetic
        >>> history = synthetic.TrainingHistory()
        >>> row = history.add(step=0, samples=0, figures={"loss": 4.0, "l0": 2.0})
        >>> row = history.add(step=10, samples=160, figures={"loss": 1.0})
        >>> history.curve("loss")
        ([0, 160], [4.0, 1.0])
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]

    def add(self, step: int, samples: int, figures: Mapping[str, float]) -> Row:
        """Append a row; gives it."""
        row: Row = {"step": step, "samples": samples}
        row |= {name: value for name, value in figures.items() if math.isfinite(value)}
        self.rows.append(row)
        return row

    def curve(self, name: str, by: str = "samples") -> tuple[list[float], list[float]]:
        """The rows that have a figure: the values of ``by``, and the figure's."""
        found = [row for row in self.rows if name in row]
        return [row[by] for row in found], [row[name] for row in found]

    @property
    def names(self) -> list[str]:
        """Figures that a row has, each once, in the order in which they came."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name not in ("step", "samples")]

    def save(self, path: AnyPath) -> None:
        """Write the rows as JSON."""
        write_json(as_path("path", path), {"rows": self.rows})

    @classmethod
    def load(cls, path: AnyPath) -> TrainingHistory:
        """The rows that :meth:`save` wrote.

        Raises:
            ValueError: naming the file, where it is something else.
        """
        file = as_path("path", path)
        data: Any = read_json(file)
        with errors_naming(file):
            return cls(check_rows(data.get("rows") if isinstance(data, dict) else data))


def check_rows(rows: Any) -> list[Row]:
    """The rows, or an error where they are none."""
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise ValueError(
            "rows must be a list of mappings of names to numbers with step and samples"
        )
    return rows


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and {"step", "samples"} <= row.keys()
        and all(isinstance(value, int | float) for value in row.values())
    )
