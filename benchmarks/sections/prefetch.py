"""A stream that samples ahead in a thread, with a consumer that computes as long as it samples."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from functools import partial

import torch
from harness import worlds
from harness.report import Section
from harness.timing import Case, Settings, interleave

from synthkern import SyntheticModel, SyntheticStream

_PRESET = "synth-sae-bench-16k"
_BATCH = 1024
#: Batches of a call, from a new stream: none of them was sampled before the clock ran.
_BATCHES = 32
_SAMPLING, _COMPUTING = "sampling alone", "computing alone"
#: What the machine's two cores can do, without any queue between the threads.
_CEILING = "both, unconnected"
_DEPTHS = {"no prefetch": 0, "prefetch 1": 1, "prefetch 2": 2, "prefetch 8": 8}
_WITHOUT, _WITH = "no prefetch", "prefetch 2"
_AT_LEAST = 1.6
_WIDTH = 512


def run(settings: Settings) -> Section:
    """Measure with one thread to sample and one to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(settings)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _measure(settings: Settings) -> Section:
    section = Section("prefetch")
    world = worlds.build(_PRESET)
    section.checks.append(_batches_are_the_same(world))
    weights = torch.randn(
        world.cfg.hidden_dim, 8 * _WIDTH, generator=torch.Generator().manual_seed(0)
    )
    weights = weights[:, : _width_that_balances(world, weights)].contiguous()
    alone = worlds.successive(world.sample, _BATCH, _BATCHES)
    hidden = world.sample(_BATCH, seed=worlds.SEED)
    cases = [
        Case(_SAMPLING, lambda: [draw() for draw in alone], _BATCH * _BATCHES),
        Case(_COMPUTING, lambda: [hidden @ weights for _ in alone], _BATCH * _BATCHES),
    ]
    cases.append(Case(_CEILING, partial(_both_at_once, cases), _BATCH * _BATCHES))
    for name, depth in _DEPTHS.items():
        consume = partial(_consume, world, depth, weights)
        cases.append(Case(name, consume, _BATCH * _BATCHES))
    title = f"{_PRESET}, {_BATCHES} batches {list(hidden.shape)} @ {list(weights.shape)}"
    timings = section.time(title, cases, settings, _WITH, "sample")
    balance = timings[_COMPUTING].times(timings[_SAMPLING]).median
    ceiling = timings[_WITHOUT].times(timings[_CEILING]).median
    section.notes.append(
        f"one thread to sample and one to compute, which takes {balance:.3g} of sampling's time; "
        f"at best {_BATCHES} batches take the time of {_BATCHES + 1} computations, and this "
        f"machine does both at once, unconnected, {ceiling:.3g} times as fast as in turn"
    )
    text = "throughput of a stream with prefetch against none, beside a computation as long"
    value = timings[_WITHOUT].times(timings[_WITH]).median
    section.require(text, value, _AT_LEAST)
    return section


def _both_at_once(cases: Sequence[Case]) -> None:
    """Sample in one thread and compute in another, neither waiting for the other."""
    sampling, computing = cases[:2]
    thread = threading.Thread(target=sampling.run)
    thread.start()
    computing.run()
    thread.join()


def _consume(world: SyntheticModel, depth: int, weights: torch.Tensor) -> None:
    """Multiply every batch of a new stream by the weights; closing the stream included."""
    stream = SyntheticStream(world, _BATCH, worlds.SEED, prefetch=depth)
    for hidden in itertools.islice(stream, _BATCHES):
        assert isinstance(hidden, torch.Tensor)
        hidden @ weights


def _batches_are_the_same(world: SyntheticModel) -> str:
    for depth in _DEPTHS.values():
        stream = SyntheticStream(world, _BATCH, worlds.SEED, prefetch=depth)
        for number, hidden in enumerate(itertools.islice(stream, 4)):
            expected = world.sample(_BATCH, seed=worlds.SEED, start=number * _BATCH)
            assert isinstance(hidden, torch.Tensor)
            assert torch.equal(hidden, expected), f"batch {number} differs at prefetch {depth}"
    return f"batches are bit for bit what sample gives, at prefetch {list(_DEPTHS.values())}"


def _width_that_balances(world: SyntheticModel, weights: torch.Tensor) -> int:
    """How many columns of the weights make a product take as long as sampling its batch."""
    draw = worlds.in_turn(worlds.successive(world.sample, _BATCH, _BATCHES))
    hidden = world.sample(_BATCH, seed=worlds.SEED)
    width = _WIDTH
    for _ in range(2):
        some = weights[:, :width].contiguous()
        cases = [Case(_SAMPLING, draw), Case(_COMPUTING, partial(torch.matmul, hidden, some))]
        timings = interleave("prefetch: balancing", cases, Settings(5))
        ratio = timings[_SAMPLING].times(timings[_COMPUTING]).median
        # Multiples of what a matrix product does at once.
        width = max(64, min(round(width * ratio / 64) * 64, weights.shape[1]))
    return width
