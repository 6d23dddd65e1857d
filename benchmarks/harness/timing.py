"""Timing several systems in one run, turn by turn."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

#: A turn of a case lasts at least this long, so that the clock's and the call's own cost vanish.
TURN_SECONDS = 0.2


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        repeats: rounds; in each round every case has one turn.
        budget: seconds after which a case has no further turn, once it has had one.
    """

    repeats: int = 5
    budget: float = 60.0


@dataclass(frozen=True)
class Case:
    """One system doing one piece of work.

    Attributes:
        name: as the tables show it.
        run: the work, once.
        items: how many samples (or steps) that is.
        slow: whether a call lasts seconds, so that a turn is one call; what warms it up is then
            up to whoever makes the case.
    """

    name: str
    run: Callable[[], object]
    items: int = 1
    slow: bool = False


@dataclass(frozen=True)
class Quartiles:
    """First quartile, median and third quartile."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """The quartiles of at least one value, linear between neighbours."""
        low, median, high = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75])
        return cls(float(low), float(median), float(high))


@dataclass
class Timing:
    """Seconds per call of one case, by the number of the round."""

    name: str
    items: int
    calls: int
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def quartiles(self) -> Quartiles:
        """Seconds per call."""
        return Quartiles.of(list(self.seconds.values()))

    @property
    def per_item(self) -> float:
        """Median seconds per item."""
        return self.quartiles.median / self.items

    def times(self, other: Timing) -> Quartiles:
        """How many times the other's time an item takes here, over the rounds that both had."""
        shared = sorted(self.seconds.keys() & other.seconds.keys())
        scale = other.items / self.items
        return Quartiles.of([scale * self.seconds[r] / other.seconds[r] for r in shared])

    def to_dict(self) -> dict[str, object]:
        """The numbers as JSON types."""
        quartiles = self.quartiles
        return {
            "name": self.name,
            "items_per_call": self.items,
            "calls_per_turn": self.calls,
            "seconds_per_call": list(self.seconds.values()),
            "quartiles": [quartiles.low, quartiles.median, quartiles.high],
            "items_per_second": 1 / self.per_item,
        }


def interleave(title: str, cases: Sequence[Case], settings: Settings) -> dict[str, Timing]:
    """Time the cases A B ... A B ..., so that what the machine does meanwhile touches them all.

    A turn is as many calls as fill TURN_SECONDS, after one that is not timed (the other cases
    have just filled the caches with data of their own); its time is the mean of its calls. A
    case whose single call lasts longer has one call a turn and none before it.
    """
    timings = {}
    for case in tqdm(cases, desc=f"{title}: warming up", leave=False, disable=None):
        timings[case.name] = Timing(case.name, case.items, _calls(case))
    spent = dict.fromkeys(timings, 0.0)
    with tqdm(total=settings.repeats * len(cases), desc=title, leave=False, disable=None) as bar:
        for number in range(settings.repeats):
            for case in cases:
                if number == 0 or spent[case.name] < settings.budget:
                    bar.set_postfix_str(case.name)
                    timing = timings[case.name]
                    seconds = _turn(case, timing.calls)
                    timing.seconds[number] = seconds
                    spent[case.name] += seconds * timing.calls
                bar.update()
    return timings


def _calls(case: Case) -> int:
    """Warm a case up and say how many calls a turn has."""
    if case.slow:
        return 1
    case.run()
    return math.ceil(TURN_SECONDS / max(_timed(case.run), 1e-9))


def _turn(case: Case, calls: int) -> float:
    """Seconds per call."""
    gc.collect()
    if calls > 1:
        case.run()
    begin = time.perf_counter()
    for _ in range(calls):
        case.run()
    return (time.perf_counter() - begin) / calls


def _timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
