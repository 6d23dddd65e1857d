"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import re
from typing import Any

from synthkern._checks import as_int

_SIZE = re.compile(r"(\d{1,18}(?:\.\d*)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_UNITS = ("k", "m", "g", "t")


def as_size(name: str, value: Any) -> int:
    """Return a size as a number of bytes, at least 0.

    A string may end in a unit: "10GiB" and "10G" are 10 * 2**30 bytes, "10GB" 10**10.

    Raises:
        ValueError: for a string that is no size, and below 0.
        TypeError: for anything but an integer or a string.
    """
    if not isinstance(value, str):
        return as_int(name, value, low=0)
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{name} must be a size such as 10GiB, 500MB or 0, got {value!r}")
    number, unit, binary = found[1], found[2], found[3]
    power = _UNITS.index(unit.lower()) + 1 if unit else 0
    is_binary = binary or not value.strip().lower().endswith("b")
    return int(float(number) * (1024 if is_binary else 1000) ** power)


def size_text(size: int) -> str:
    """A size in the largest unit of which there is one, such as "1.3 GiB"."""
    if size < 1024:
        return f"{size} B"
    number = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 999.5:
            return f"{number:.3g} {unit}"
    number /= 1024
    return f"{number:.3g} TiB" if number < 999.5 else f"{number:,.0f} TiB"
