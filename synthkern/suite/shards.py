"""Parts of a suite for job arrays: which runs are of the i-th of n, and what its database is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """The part of a suite that one job of an array does.

    Attributes:
        index: of the job, from 1.
        count: of jobs.
    """

    index: int
    count: int

    def of(self, units: Sequence[_T]) -> list[_T]:
        """What is this job's: every n-th, so that each has some of every world and size."""
        return list(units[self.index - 1 :: self.count])

    @property
    def filename(self) -> str:
        """Of its database, which no other job writes: not all shared folders have good locks."""
        return f"suite.{self.index}-of-{self.count}.sqlite"


def as_shard(name: str, value: object) -> Shard:
    """A text I/N, or two integers, as a shard.

    Raises:
        ValueError: naming it, unless 1 <= I <= N.
    """
    if isinstance(value, Shard):
        return value
    found = _TEXT.fullmatch(value) if isinstance(value, str) else None
    pair = [int(number) for number in found.groups()] if found is not None else value
    if (
        not isinstance(pair, list | tuple)
        or len(pair) != 2
        or not all(type(number) is int for number in pair)
        or not 1 <= pair[0] <= pair[1]
    ):
        raise ValueError(f"{name} must be I/N with 1 <= I <= N, such as 1/8, got {value!r}")
    return Shard(*pair)
