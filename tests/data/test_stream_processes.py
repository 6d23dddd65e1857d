"""Streams in real worker processes and real process groups."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import worlds
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import synthkern as synthetic
from synthkern.data.prefetch import THREAD_NAME
from synthkern.sparse import SparseArrays

SEED, SIZE, START = 11, 16, 2**32 - 40

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    # Small machines are warned of three workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    # A loader has threads of its own.
    assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]


class Beginning(IterableDataset[Any]):
    """The first batches of a stream in every worker.

    A loader that is left early ends its workers while they hand batches out, and Python 3.11 can
    abort a spawned one then, whatever its dataset: torch lets go of the GIL in a destructor.
    """

    def __init__(self, stream: synthetic.SyntheticStream, count: int) -> None:
        self.stream = stream
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.stream, self.count)


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    return worlds.MIDDLE["hierarchy"]()


def loader(
    stream: IterableDataset[Any], workers: int, context: str | None = None, **options: Any
) -> DataLoader[Any]:
    return DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        **options,
    )


@pytest.mark.parametrize(
    ("workers", "context"), [(1, "fork"), (2, "fork"), (3, "fork"), (2, "spawn")]
)
def test_workers_make_the_batches_in_order(
    model: synthetic.SyntheticModel, workers: int, context: str
) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, START, with_features=True)
    batches = list(loader(Beginning(stream, 7), workers, context))
    hidden, features = zip(*batches, strict=True)
    assert all(part.is_shared() for part in hidden)
    assert all(part.values.is_shared() for part in features)
    together = torch.cat(hidden), synthetic.SparseActivations.cat(features)
    worlds.assert_same(together, worlds.draw(model, 7 * workers * SIZE, seed=SEED, start=START))
    # The workers have copies.
    assert stream.state_dict()["position"] == START


def test_no_workers(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, START)
    hidden = torch.cat(list(islice(loader(stream, 0), 3)))
    assert torch.equal(hidden, model.sample(3 * SIZE, seed=SEED, start=START))
    assert stream.state_dict()["position"] == START + 3 * SIZE


def with_state(batch: torch.Tensor) -> tuple[torch.Tensor, int, dict[str, int]]:
    """What a worker says of its own copy of the stream as it hands a batch out."""
    info = get_worker_info()
    assert info is not None
    return batch, info.id, info.dataset.state_dict()


@pytest.mark.many_samples
@pytest.mark.usefixtures("backend")
def test_workers_know_where_they_are(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED)
    stream.load_state_dict({**stream.state_dict(), "position": START})
    batches = list(islice(loader(stream, 2, "fork", collate_fn=with_state), 6))
    for number, (hidden, worker, state) in enumerate(batches):
        expected = model.sample(SIZE, seed=SEED, start=START + number * SIZE)
        assert torch.equal(hidden, expected)
        assert worker == number % 2
        assert state["position"] == START + (number // 2 + 1) * 2 * SIZE
    resumed = synthetic.SyntheticStream(model, SIZE, SEED)
    resumed.load_state_dict(batches[-1][2])
    expected = model.sample(SIZE, seed=SEED, start=START + 6 * SIZE)
    assert torch.equal(next(iter(resumed)), expected)


def test_resuming_with_other_workers_by_the_count_of_samples(
    model: synthetic.SyntheticModel,
) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, START)
    parts = list(islice(loader(stream, 2, "fork"), 5))
    seen = sum(len(part) for part in parts)
    resumed = synthetic.SyntheticStream(model, SIZE, SEED, START + seen)
    parts += islice(loader(resumed, 3, "fork"), 5)
    assert torch.equal(torch.cat(parts), model.sample(10 * SIZE, seed=SEED, start=START))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_start_while_a_thread_samples(context: str) -> None:
    model = worlds.MIDDLE["hierarchy"]()
    before = model.feature_dict.feature_vectors.data_ptr()
    stream = synthetic.SyntheticStream(model, SIZE, SEED, START)
    running = iter(stream)
    own = [next(running)]
    others = list(loader(Beginning(stream, 2), 2, context))
    # Pickled for another process, it would have been moved under the thread.
    assert model.feature_dict.feature_vectors.data_ptr() == before
    own += islice(running, 3)
    del running
    for batches in (own, others):
        expected = model.sample(4 * SIZE, seed=SEED, start=START)
        assert torch.equal(torch.cat(batches), expected)


def fails_at_once(activations: torch.Tensor) -> torch.Tensor:
    raise ArithmeticError(f"in a batch of {len(activations)}")


def test_what_a_modifier_raises_in_a_worker_arrives() -> None:
    generator = synthetic.ActivationGenerator(20, 0.3, modify_activations=fails_at_once)
    batches = iter(loader(synthetic.SyntheticStream(generator, SIZE, SEED), 1, "fork"))
    with pytest.raises(ArithmeticError, match=r"in fails_at_once[\s\S]*in a batch of 16"):
        next(batches)
    del batches


def as_it_is(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_numpy_batches_through_a_loader(model: synthetic.SyntheticModel, workers: int) -> None:
    expected, entries = worlds.draw(model, SIZE, seed=SEED, start=START)
    stream = synthetic.SyntheticStream(model, SIZE, SEED, START, with_features=True, as_numpy=True)
    # A loader's own conversion makes tensors of arrays, and keeps the named tuple.
    hidden, features = next(iter(loader(stream, workers, "fork")))
    assert torch.equal(hidden, expected)
    assert isinstance(features, SparseArrays)
    for got, wanted in zip(
        features, (entries.offsets, entries.indices, entries.values), strict=True
    ):
        assert torch.equal(got, wanted)
    arrays, features = next(iter(loader(stream, workers, "fork", collate_fn=as_it_is)))
    assert isinstance(arrays, np.ndarray)
    assert np.array_equal(arrays, expected.numpy())
    for got, wanted in zip(features, entries.numpy(), strict=True):
        assert isinstance(got, np.ndarray)
        assert np.array_equal(got, wanted)


def run_rank(rank: int, ranks: int, folder: Path, context: str, position: int, rounds: int) -> None:
    """One process of a group: the batches that a loader with two workers gives it, in a file."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=ranks
    )
    stream = synthetic.SyntheticStream(worlds.MIDDLE["hierarchy"](), SIZE, SEED, position)
    batches = list(loader(Beginning(stream, rounds), 2, context))
    # And without workers, with the state that both ranks then have.
    alone = list(islice(stream, rounds))
    torch.save(
        {"batches": torch.stack(batches), "alone": torch.stack(alone), **stream.state_dict()},
        folder / f"rank-{rank}.pt",
    )
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_two_ranks_of_two_workers(
    model: synthetic.SyntheticModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: str,
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(run_rank, (2, tmp_path, context, START, 3), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2)]
    # [batch of the rank, rank, sample, component]: in this order the batches follow each other.
    for name, batches in (("batches", 6), ("alone", 3)):
        together = torch.stack([rank[name] for rank in ranks], dim=1)
        assert together.shape == (batches, 2, SIZE, 97)
        count = batches * 2 * SIZE
        assert torch.equal(together.reshape(count, 97), model.sample(count, seed=SEED, start=START))
    assert [rank["position"] for rank in ranks] == [START + 3 * 2 * SIZE] * 2

    # One process goes on with the state of a rank.
    stream = synthetic.SyntheticStream(model, SIZE, SEED)
    names = stream.state_dict().keys()
    stream.load_state_dict({name: ranks[1][name] for name in names})
    expected = model.sample(SIZE, seed=SEED, start=START + 3 * 2 * SIZE)
    assert torch.equal(next(iter(stream)), expected)
