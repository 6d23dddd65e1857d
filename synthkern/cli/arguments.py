"""What a command line's words stand for: numbers, and worlds."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation

from synthkern._warnings import warn
from synthkern.model.world_cache import SIZE_VARIABLE, WorldCache
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.paths import as_path
from synthkern.storage.sizes import as_size
from synthkern.suite.plan import parse_filter
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS
from synthkern.world.translate import translate_config

#: Digits of the largest whole number; 2**64 has 20.
_DIGITS = 30


def add_only(command: argparse.ArgumentParser) -> None:
    """The option that chooses among a suite's runs."""
    command.add_argument(
        "--only",
        type=parse_filter,
        default=[],
        metavar="WORDS",
        help="runs of these worlds, SAEs and architectures, and of L0s, seeds and fields such "
        "as l0=25, seed=3 and hidden_dim=256, separated by commas",
    )


def add_cache(command: argparse.ArgumentParser) -> None:
    """The options that say whether, and how much, built worlds are kept."""
    command.add_argument(
        "--no-cache",
        action="store_true",
        default=argparse.SUPPRESS,
        help="build the world, and keep nothing (see 'synthkern cache')",
    )
    command.add_argument(
        "--cache-size",
        type=_as_bytes,
        metavar="SIZE",
        default=argparse.SUPPRESS,
        help="how much built worlds may take on the disk, such as 10GiB, in place of "
        f"${SIZE_VARIABLE}",
    )


def cache_of(options: argparse.Namespace) -> WorldCache | None:
    """Where built worlds are kept; None where they are not to be, or there is no place."""
    given = vars(options)
    if "no_cache" in given:
        return None
    try:
        return WorldCache(max_size=given.get("cache_size"))
    except FileNotFoundError as error:
        warn(f"worlds are built without a cache: {error}")
        return None


def load_world(name: str) -> SyntheticModelConfig:
    """The world that a preset's name or a JSON file's path stands for."""
    if name in PRESETS:
        return SyntheticModelConfig.preset(name)
    path = as_path("WORLD", name)
    if not path.is_file():
        raise ValueError(f"WORLD must be a JSON file or one of {', '.join(PRESETS)}, got {name!r}")
    data = read_json(path)
    with errors_naming(path):
        return SyntheticModelConfig.from_dict(translate_config(data))


def world_or_source(name: str) -> SyntheticModelConfig | str:
    """A preset or a JSON file as its config; else a directory or REPO[:SUBFOLDER] as it is."""
    return load_world(name) if name in PRESETS or as_path("WORLD", name).is_file() else name


def as_count(text: str) -> int:
    """A whole number, which may be written as 2e6 or 2_000_000."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    # An exponent without bound would be a number without end.
    if not number.is_finite() or number.adjusted() > _DIGITS or number != int(number):
        raise argparse.ArgumentTypeError(
            f"must be a whole number below 1e{_DIGITS + 1}, got {text!r}"
        )
    return int(number)


def _as_bytes(text: str) -> int:
    """A size such as 10GiB."""
    try:
        return as_size("SIZE", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def as_number(text: str) -> float | int:
    """A number; whole ones stay whole, as some fields of a float's type are counts."""
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def as_counts(text: str) -> list[int]:
    """Whole numbers, with commas between them."""
    return [as_count(part) for part in text.split(",")]
