"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], align: str = "", *, rule: bool = False) -> list[str]:
    """Rows as lines, with columns as wide as their longest text and two spaces between them.

    Args:
        rows: as many texts each.
        align: for each column "<" or ">"; those beyond its end are ">".
        rule: whether there is a line of dashes below the first row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = align.ljust(len(widths), ">")
    if rule:
        rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "  ".join(f"{text:{s}{w}}" for text, s, w in zip(row, signs, widths, strict=True)).rstrip()
        for row in rows
    ]
