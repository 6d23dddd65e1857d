"""Choosing the sampler's tiles by measurement, once for a device and a shape of work."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from triton.runtime.errors import OutOfResources

from synthkern.engine.backend import Drawn
from synthkern.engine.triton.launch import current, position_on
from synthkern.engine.triton.sample.factors import draw_factors
from synthkern.engine.triton.sample.plan import BoundPlan, bound_plan
from synthkern.engine.triton.sample.sampler import sample
from synthkern.engine.triton.sample.screen import screen_features
from synthkern.engine.triton.sample.tiles import Tiles, default_tiles, store_tiles, using
from synthkern.plan import Plan

#: Rows, blocks and warps of the screen that are tried.
SCREENS = (
    (16, 16, 1),
    (32, 16, 2),
    (32, 32, 2),
    (64, 16, 2),
    (64, 16, 4),
    (64, 32, 4),
    (128, 16, 4),
)
#: Numbers of the drawing that are tried one group after the other, each with the best before it.
#: Stages are not among them: the drawing's loops carry what they load into the next turn.
DRAWS: tuple[tuple[dict[str, int], ...], ...] = (
    ({"lanes": 64, "warps": 2}, {"lanes": 64, "warps": 1}, {"lanes": 128, "warps": 4}),
    ({"rows": 1}, {"rows": 2}, {"rows": 4}, {"rows": 8}),
    ({"blocks": 16}, {"blocks": 64}),
    ({"components": 128}, {"components": 512}),
    ({"programs": 12}, {"programs": 16}, {"programs": 20}, {"programs": 28}, {"programs": 32}),
)

#: Timed runs of a candidate, after the one that compiles it.
_RUNS = 15
#: Of the best time so far, what another must be below to be taken: the clock's noise is above 1%.
_MARGIN = 0.98

_SEED = 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What one candidate took.

    Attributes:
        stage: "screen", which is timed alone, or "draw", timed as all of a batch's work.
        tiles: the candidate.
        seconds: median of its runs, or None where the device has no room for it.
        first_seconds: wall time of its first run, which compiles it.
    """

    stage: str
    tiles: Tiles
    seconds: float | None
    first_seconds: float


#: Seconds that a call takes, the median of several.
Timer = Callable[[Callable[[], object]], float]


def tune(
    plan: Plan,
    count: int,
    vectors: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    timer: Timer | None = None,
    report: Callable[[Trial], None] | None = None,
) -> Tiles:
    """Measure tiles for batches of a world and keep the best, for this and later processes.

    Takes minutes, most of them compiling. Sampling never calls this: it looks the result up, for
    any world of the same shape class (see :func:`synthkern.engine.triton.sample.tiles.key_of`).

    Args:
        plan: the world, on the device to tune for.
        count: samples of a batch, at least 1.
        vectors: [N, D] float32, where hidden activations are to be made, without the features;
            without it, the features.
        bias: [D] float32, with ``vectors``.
        timer: measures a call; CUDA events by default.
        report: is told each trial. They are logged too.

    Raises:
        RuntimeError: where a candidate gives other bits than the default, which is a defect.
        OSError: where the result cannot be stored.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if (vectors is None) != (bias is None):
        raise ValueError("vectors and bias must be given together, got only one of them")
    bound = bound_plan(plan)
    bench = _Bench(bound, count, vectors, bias, timer or event_seconds(plan.device), report)
    best = default_tiles(plan.device, count)
    best = bench.better(best, "screen", _screens(best))
    for group in DRAWS:
        if vectors is None and "components" in group[0]:
            continue
        best = bench.better(best, "draw", _draws(best, group))
    dim = None if vectors is None else vectors.shape[1]
    _log.info("stored %s in %s", best, store_tiles(bound, count, dim, best))
    return best


def event_seconds(device: torch.device) -> Timer:
    """A timer for a GPU: CUDA events around each of several runs, and their median."""

    def measure(run: Callable[[], object]) -> float:
        with current(device):
            times = []
            for _ in range(_RUNS):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                run()
                end.record()
                times.append((begin, end))
            torch.cuda.synchronize(device)
        return statistics.median(begin.elapsed_time(end) for begin, end in times) * 1e-3

    return measure


def _screens(best: Tiles) -> Iterator[Tiles]:
    for rows, blocks, warps in SCREENS:
        yield replace(best, screen_rows=rows, screen_blocks=blocks, screen_warps=warps)


def _draws(best: Tiles, group: tuple[dict[str, int], ...]) -> Iterator[Tiles]:
    for numbers in group:
        rows = numbers.get("rows", best.rows)
        yield replace(best, **numbers, gathered=min(best.gathered, rows))


class _Bench:
    """The work that is timed, and what it must give."""

    def __init__(
        self,
        bound: BoundPlan,
        count: int,
        vectors: torch.Tensor | None,
        bias: torch.Tensor | None,
        timer: Timer,
        report: Callable[[Trial], None] | None,
    ) -> None:
        self._bound, self._count = bound, count
        self._vectors, self._bias = vectors, bias
        self._timer, self._report = timer, report
        self._position = position_on(bound.plan.device, _SEED, 0)
        self._factor = self._norm = torch.empty(0, 0, device=bound.plan.device)
        if bound.plan.rank:
            self._factor, self._norm = draw_factors(
                self._position,
                bound.table,
                0,
                count,
                bound.plan.rank,
                bound.padded_rank,
                bound.held,
            )
        self._expected: Drawn | None = None

    def better(self, best: Tiles, stage: str, candidates: Iterator[Tiles]) -> Tiles:
        """The fastest of the best so far and of the candidates."""
        least = self._try(stage, best)
        if least is None:
            raise RuntimeError(f"the device has no room for {best}")
        for tiles in candidates:
            if tiles == best:
                continue
            seconds = self._try(stage, tiles)
            if seconds is not None and seconds < _MARGIN * least:
                best, least = tiles, seconds
        return best

    def _try(self, stage: str, tiles: Tiles) -> float | None:
        """Seconds of a candidate, once it has given the bits of the first."""
        begin = time.perf_counter()
        seconds: float | None = None
        with using(tiles):
            try:
                drawn = self._sample()
            except OutOfResources as error:
                _log.info("%s: %s", tiles, error)
                first_seconds = time.perf_counter() - begin
            else:
                # To be compared is to be waited for.
                self._compare(tiles, drawn)
                first_seconds = time.perf_counter() - begin
                run = self._sample if stage == "draw" else lambda: self._screen(tiles)
                seconds = self._timer(run)
        trial = Trial(stage, tiles, seconds, first_seconds)
        _log.info("%s", trial)
        if self._report is not None:
            self._report(trial)
        return seconds

    def _sample(self) -> Drawn:
        features = self._vectors is None
        plan = self._bound.plan
        return sample(plan, _SEED, 0, self._count, features, self._vectors, self._bias)

    def _screen(self, tiles: Tiles) -> object:
        return screen_features(
            self._bound.screen,
            self._position,
            self._factor,
            self._norm,
            0,
            self._count,
            tiles.screen_rows,
            tiles.screen_blocks,
            tiles.screen_warps,
            self._bound.held,
        )

    def _compare(self, tiles: Tiles, drawn: Drawn) -> None:
        if self._expected is None:
            self._expected = drawn
        pairs = zip(_parts(drawn), _parts(self._expected), strict=True)
        if not all(torch.equal(*pair) for pair in pairs):
            raise RuntimeError(f"{tiles} must give the bits of the default tiles, and does not")


def _parts(drawn: Drawn) -> list[torch.Tensor]:
    """What was drawn, as numbers that are compared bit by bit."""
    parts = []
    if drawn.features is not None:
        parts += [drawn.features.offsets, drawn.features.indices, drawn.features.values]
    if drawn.hidden is not None:
        parts.append(drawn.hidden)
    return [part.view(torch.int32) if part.is_floating_point() else part for part in parts]
