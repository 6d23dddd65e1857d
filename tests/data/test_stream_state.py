"""Which shard gets which batches, and resuming at the exact sample under any topology.

The ranks and workers here are only told to the stream; ``test_stream_processes.py`` has real ones.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
import worlds

import synthkern as synthetic

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

SEED, SIZE = 5, 7


class Place:
    """Tells streams which rank of how many, and which worker of how many, they are in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rank, self.ranks, self.worker, self.workers = 0, 1, 0, 0
        group = torch.distributed
        monkeypatch.setattr(group, "is_initialized", lambda: self.ranks > 1)
        monkeypatch.setattr(group, "get_rank", lambda: self.rank)
        monkeypatch.setattr(group, "get_world_size", lambda: self.ranks)
        monkeypatch.setattr("synthkern.data.synthetic_stream.get_worker_info", self._worker_info)

    def _worker_info(self) -> SimpleNamespace | None:
        if self.workers == 0:
            return None
        return SimpleNamespace(id=self.worker, num_workers=self.workers)

    def every(self, ranks: int, workers: int) -> Iterator[tuple[int, int]]:
        """Go through all (rank, worker) of a topology."""
        self.ranks, self.workers = ranks, workers
        for self.rank in range(ranks):
            for self.worker in range(max(workers, 1)):
                yield self.rank, self.worker


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


@pytest.fixture(scope="module")
def generator() -> synthetic.ActivationGenerator:
    return worlds.GOLDEN["hierarchy"]()


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 3), (2, 0), (2, 1), (3, 2)])
def test_batches_of_every_shard(
    generator: synthetic.ActivationGenerator, place: Place, ranks: int, workers: int
) -> None:
    starts, width = [], max(workers, 1)
    for rank, worker in place.every(ranks, workers):
        stream = synthetic.SyntheticStream(generator, SIZE, SEED, 2**64 - 30)
        for i, batch in zip(range(3), stream, strict=False):
            number = (worker + i * width) * ranks + rank
            start = (2**64 - 30 + number * SIZE) % 2**64
            assert torch.equal(batch, generator.sample(SIZE, seed=SEED, start=start))
            starts.append(number)
    assert sorted(starts) == list(range(3 * ranks * width))


def test_ranks_are_read_where_iteration_begins(
    generator: synthetic.ActivationGenerator, place: Place
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED)
    place.rank, place.ranks = 1, 2
    batches = iter(stream)
    place.rank, place.ranks = 0, 1
    for number in (1, 3, 5):
        expected = generator.sample(SIZE, seed=SEED, start=number * SIZE)
        assert torch.equal(next(batches), expected)
    del batches


def test_a_copy_in_a_process_without_a_group_keeps_its_ranks(
    generator: synthetic.ActivationGenerator, place: Place
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED)
    place.rank, place.ranks = 2, 3
    pickled = pickle.dumps(stream)
    place.rank, place.ranks = 0, 1
    copy = pickle.loads(pickled)
    again = pickle.loads(pickle.dumps(copy))
    for resumed, number in ((copy, 2), (again, 2), (stream, 0)):
        expected = generator.sample(SIZE, seed=SEED, start=number * SIZE)
        assert torch.equal(next(iter(resumed)), expected)
    place.rank, place.ranks = 1, 2
    expected = generator.sample(SIZE, seed=SEED, start=SIZE)
    assert torch.equal(next(iter(copy)), expected)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_state_is_where_what_was_handed_out_ends(
    generator: synthetic.ActivationGenerator, prefetch: int
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED, 100, prefetch=prefetch)

    def state(position: int) -> dict[str, int]:
        return {
            "position": position,
            "seed": SEED,
            "batch_size": SIZE,
            "stream_version": synthetic.STREAM_VERSION,
        }

    assert stream.state_dict() == state(100)
    batches = iter(stream)
    assert stream.state_dict() == state(100)
    for taken in range(1, 5):
        next(batches)
        assert stream.state_dict() == state(100 + taken * SIZE)
    del batches
    assert stream.state_dict() == state(100 + 4 * SIZE)
    iter(stream)
    assert stream.state_dict() == state(100)


def test_resuming_under_one_topology_after_the_other(
    generator: synthetic.ActivationGenerator, place: Place
) -> None:
    """Rounds of several topologies in turn, each from the state that the last left: no sample is
    missing or there twice, over the end of the stream too.
    """
    start = 2**64 - 50
    batches: dict[int, torch.Tensor] = {}
    state = synthetic.SyntheticStream(generator, SIZE, SEED, start).state_dict()
    taken = 0
    for ranks, workers, rounds in [(2, 2, 2), (1, 0, 1), (1, 3, 1), (3, 1, 2), (1, 0, 2)]:
        states = []
        for rank, worker in place.every(ranks, workers):
            stream = synthetic.SyntheticStream(generator, SIZE, SEED, 12345)
            stream.load_state_dict(json.loads(json.dumps(state)))
            for i, batch in zip(range(rounds), stream, strict=False):
                batches[taken + (i * max(workers, 1) + worker) * ranks + rank] = batch
            states.append(stream.state_dict())
        taken += rounds * ranks * max(workers, 1)
        (state,) = [s for n, s in enumerate(states) if s not in states[:n]]
        assert state["position"] == (start + taken * SIZE) % 2**64
    assert sorted(batches) == list(range(taken))
    everything = torch.cat([batches[number] for number in range(taken)])
    assert torch.equal(everything, generator.sample(taken * SIZE, seed=SEED, start=start))


def test_workers_in_different_rounds_resume_where_each_was(
    generator: synthetic.ActivationGenerator, place: Place
) -> None:
    """As where a loader keeps the state of each worker for itself."""
    states, after = [], []
    for _, worker in place.every(1, 2):
        stream = synthetic.SyntheticStream(generator, SIZE, SEED)
        batches = iter(stream)
        for _ in range(3 - worker):
            next(batches)
        states.append(stream.state_dict())
        after.append(next(batches))
        del batches
    for (_, worker), state in zip(place.every(1, 2), states, strict=True):
        stream = synthetic.SyntheticStream(generator, SIZE, SEED)
        stream.load_state_dict(state)
        assert torch.equal(next(iter(stream)), after[worker])


def test_loading_moves_the_next_iterator_and_not_a_running_one(
    generator: synthetic.ActivationGenerator,
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED)
    running = iter(stream)
    next(running)
    stream.load_state_dict({**stream.state_dict(), "position": 1000})
    assert torch.equal(next(running), generator.sample(SIZE, seed=SEED, start=SIZE))
    expected = generator.sample(SIZE, seed=SEED, start=1000)
    for _ in range(2):
        assert torch.equal(next(iter(stream)), expected)
    assert stream.state_dict()["position"] == 1000 + SIZE
    del running


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seed": 6}, ValueError, "state_dict must have this stream's seed 5, got 6"),
        ({"seed": None}, ValueError, "state_dict must have this stream's seed 5, got None"),
        ({"batch_size": 8}, ValueError, "state_dict must have this stream's batch_size 7, got 8"),
        ({"stream_version": 0}, ValueError, "must have this stream's stream_version 1, got 0"),
        ({"epoch": 3}, ValueError, "state_dict has unknown keys ['epoch']; known are ['batch_size"),
        ({"position": -1}, ValueError, "state_dict['position'] must be an integer >= 0 and <= "),
        ({"position": 2**64}, ValueError, f"<= {2**64 - 1}, got {2**64}"),
        ({"position": 1.0}, TypeError, "state_dict['position'] must be an integer, got 1.0"),
    ],
)
def test_states_of_other_streams_are_refused(
    generator: synthetic.ActivationGenerator,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED, 50)
    before = stream.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        stream.load_state_dict({**before, **changes})
    assert stream.state_dict() == before


@pytest.mark.parametrize("missing", ["position", "seed", "batch_size", "stream_version"])
def test_incomplete_states_are_refused(
    generator: synthetic.ActivationGenerator, missing: str
) -> None:
    stream = synthetic.SyntheticStream(generator, SIZE, SEED)
    state = stream.state_dict()
    del state[missing]
    message = f"state_dict must have the key '{missing}', got {sorted(state)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        stream.load_state_dict(state)
    with pytest.raises(TypeError, match=r"^state_dict must be a mapping, got None$"):
        stream.load_state_dict(None)  # type: ignore[arg-type]
