"""Command lines: a script's docstring as its help, and names of sections."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser whose help begins with a script's docstring, as it stands."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_only(options: argparse.ArgumentParser, known: Collection[str], what: str) -> None:
    """The option ``--only``: names with commas between them, all that are ``known`` by default."""
    options.add_argument(
        "--only",
        type=_names_of(known),
        default=list(known),
        metavar="NAMES",
        help=f"{what}, separated by commas, of {', '.join(known)}",
    )


def _names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """What reads names that a comma divides, and refuses those that are not ``known``."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {unknown}")
        return found

    return names
