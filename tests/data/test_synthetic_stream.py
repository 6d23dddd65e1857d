"""Batches of a stream: their samples, their forms, and what is refused."""

from __future__ import annotations

import pickle
import re
import traceback
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import worlds

import synthkern as synthetic
from synthkern.sparse import SparseArrays

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

SEED, SIZE = 2**40 + 7, 13


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    return worlds.MIDDLE["hierarchy"]()


def first(stream: synthetic.SyntheticStream, batches: int) -> list[Any]:
    return list(islice(stream, batches))


@pytest.mark.many_samples
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", [0, 1000, 2**32 - 20, 2**64 - 20])
def test_batches_are_the_models_samples(
    model: synthetic.SyntheticModel, prefetch: int, start: int
) -> None:
    stream = synthetic.SyntheticStream(
        model, SIZE, SEED, start, with_features=True, prefetch=prefetch
    )
    batches = first(stream, 4)
    hidden, features = zip(*batches, strict=True)
    assert [len(part) for part in hidden] == [SIZE] * 4
    together = torch.cat(hidden), synthetic.SparseActivations.cat(features)
    worlds.assert_same(together, worlds.draw(model, 4 * SIZE, seed=SEED, start=start))

    alone = synthetic.SyntheticStream(model, SIZE, SEED, start, prefetch=prefetch)
    assert torch.equal(torch.cat(first(alone, 4)), together[0])


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "COO"])
def test_a_generators_batches_are_what_it_samples(sparse: bool) -> None:
    generator = synthetic.ActivationGenerator(
        40, 0.2, 0.1, dtype="float64", use_sparse_tensors=sparse
    )
    for k, batch in enumerate(first(synthetic.SyntheticStream(generator, SIZE, SEED), 3)):
        expected = generator.sample(SIZE, seed=SEED, start=k * SIZE)
        assert (batch.layout, batch.dtype) == (expected.layout, torch.float64)
        assert torch.equal(batch.to_dense(), expected.to_dense())
    stream = synthetic.SyntheticStream(generator, SIZE, SEED, with_features=True)
    for k, batch in enumerate(first(stream, 3)):
        expected = generator.sample_sparse(SIZE, seed=SEED, start=k * SIZE)
        worlds.assert_same_features(batch, expected)


def test_every_iterator_begins_anew(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, 5)
    one, other = iter(stream), iter(stream)
    a = [next(one) for _ in range(3)]
    b = [next(other) for _ in range(3)]
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(first(stream, 1)[0], a[0])
    del one, other


def test_a_batch_handed_out_is_the_consumers_own(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, with_features=True, as_numpy=True)
    kept: list[Any] = []
    for k, (hidden, features) in zip(range(6), stream, strict=False):
        assert np.array_equal(hidden, model.sample(SIZE, seed=SEED, start=k * SIZE).numpy())
        for array in (hidden, *features):
            assert array.flags.writeable
            array.fill(77)
        kept.append((hidden, *features))
    arrays = [array for batch in kept for array in batch]
    assert all((array == 77).all() for array in arrays)
    assert len({array.ctypes.data for array in arrays}) == len(arrays)


def test_numpy_batches_share_the_memory_that_was_sampled(
    model: synthetic.SyntheticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[Any] = []
    for name in ("sample", "sample_with_features"):
        sample = getattr(model, name)

        def recording(*args: Any, sample: Any = sample, **kwargs: Any) -> Any:
            sampled.append(sample(*args, **kwargs))
            return sampled[-1]

        monkeypatch.setattr(model, name, recording)
    stream = synthetic.SyntheticStream(model, SIZE, SEED, as_numpy=True, prefetch=0)
    (hidden,) = first(stream, 1)
    assert (type(hidden), hidden.dtype, hidden.shape) == (np.ndarray, np.float32, (SIZE, 97))
    assert hidden.ctypes.data == sampled[0].data_ptr()
    stream = synthetic.SyntheticStream(
        model, SIZE, SEED, with_features=True, as_numpy=True, prefetch=0
    )
    ((hidden, features),) = first(stream, 1)
    drawn, entries = sampled[1]
    assert isinstance(features, SparseArrays)
    assert [array.ctypes.data for array in (hidden, *features)] == [
        part.data_ptr() for part in (drawn, entries.offsets, entries.indices, entries.values)
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_generators_batches_as_numpy(dtype: torch.dtype) -> None:
    generator = synthetic.ActivationGenerator(40, 0.2, 0.1, dtype=dtype)
    (dense,) = first(synthetic.SyntheticStream(generator, SIZE, SEED, as_numpy=True), 1)
    expected = generator.sample(SIZE, seed=SEED)
    assert torch.equal(torch.from_numpy(dense), expected)
    stream = synthetic.SyntheticStream(generator, SIZE, SEED, with_features=True, as_numpy=True)
    (features,) = first(stream, 1)
    assert features.values.dtype == np.float32
    rows = np.repeat(np.arange(SIZE), np.diff(features.offsets))
    filled = np.zeros((SIZE, 40), np.float32)
    filled[rows, features.indices] = features.values
    assert torch.equal(torch.from_numpy(filled).to(dtype), expected)


def test_batches_go_through_dlpack_without_a_copy(model: synthetic.SyntheticModel) -> None:
    ((hidden, features),) = first(
        synthetic.SyntheticStream(model, SIZE, SEED, with_features=True), 1
    )
    for tensor in (hidden, features.offsets, features.indices, features.values):
        array = np.from_dlpack(tensor)
        assert array.ctypes.data == tensor.data_ptr()
        assert array.shape == tuple(tensor.shape)
    (array,) = first(synthetic.SyntheticStream(model, SIZE, SEED, as_numpy=True), 1)
    again = torch.from_dlpack(array)
    assert again.data_ptr() == array.ctypes.data
    assert torch.equal(again, hidden)


@pytest.mark.parametrize("prefetch", [0, 1, 8])
def test_what_a_modifier_raises_comes_after_the_batches_before_it(prefetch: int) -> None:
    calls: list[torch.Tensor] = []

    def fails_later(activations: torch.Tensor) -> torch.Tensor:
        if len(calls) == 3:
            raise ArithmeticError("the fourth batch")
        calls.append(activations)
        return activations

    generator = synthetic.ActivationGenerator(20, 0.3, modify_activations=fails_later)
    stream = synthetic.SyntheticStream(generator, SIZE, SEED, 100, prefetch=prefetch)
    batches = []
    with pytest.raises(ArithmeticError, match=r"^the fourth batch$") as caught:
        batches.extend(stream)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "fails_later"
    assert stream.state_dict()["position"] == 100 + 3 * SIZE


def test_streams_sample_side_by_side(model: synthetic.SyntheticModel) -> None:
    """Two threads that make batches, and the consumer's own samples between them."""
    streams = [synthetic.SyntheticStream(model, SIZE, seed) for seed in (1, 2)]
    for k, pair in enumerate(islice(zip(*streams, strict=True), 20)):
        for seed, hidden in zip((1, 2), pair, strict=True):
            assert torch.equal(hidden, model.sample(SIZE, seed=seed, start=k * SIZE))


def test_a_pickled_stream_goes_on_alike(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED, 9, with_features=True, as_numpy=True)
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.state_dict() == stream.state_dict()
    for (a, x), (b, y) in zip(first(stream, 3), first(copy, 3), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip((a, *x), (b, *y), strict=True))


def test_arguments_have_the_usual_defaults(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, SIZE, SEED)
    assert (stream.with_features, stream.as_numpy, stream.prefetch) == (False, False, 2)
    assert stream.source is model
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'seed'"):
        synthetic.SyntheticStream(model, SIZE)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": torch.ones(2)}, TypeError, "source must have a method sample(batch_size) or "),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1 and <= 2147483647, "),
        ({"batch_size": 2**31}, ValueError, "batch_size must be an integer >= 1 and <= 2147483647"),
        ({"batch_size": 1.5}, TypeError, "batch_size must be an integer, got 1.5"),
        ({"seed": None}, TypeError, "seed must be an integer, got None"),
        ({"seed": -1}, ValueError, f"seed must be an integer >= 0 and <= {2**64 - 1}, got -1"),
        ({"start": 2**64}, ValueError, f"start must be an integer >= 0 and <= {2**64 - 1}"),
        ({"start": "0"}, TypeError, "start must be an integer, got '0'"),
        ({"with_features": 1}, TypeError, "with_features must be True or False, got 1"),
        ({"as_numpy": None}, TypeError, "as_numpy must be True or False, got None"),
        ({"prefetch": -1}, ValueError, "prefetch must be an integer >= 0, got -1"),
        ({"prefetch": True}, TypeError, "prefetch must be an integer, got True"),
    ],
)
def test_bad_arguments_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    sound: dict[str, Any] = {
        "source": synthetic.ActivationGenerator(4, 0.5),
        "batch_size": 2,
        "seed": 0,
    }
    synthetic.SyntheticStream(**sound)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        synthetic.SyntheticStream(**{**sound, **changes})


def test_numpy_is_refused_where_it_has_no_such_array() -> None:
    def stream(source: Any, **options: bool) -> synthetic.SyntheticStream:
        return synthetic.SyntheticStream(source, 2, 0, as_numpy=True, **options)

    wanted = (
        "with as_numpy, source must be on the CPU and of another dtype than bfloat16, "
        "which NumPy lacks, got "
    )
    coarse = synthetic.ActivationGenerator(4, 0.5, dtype="bfloat16")
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}torch.bfloat16 on cpu$"):
        stream(coarse)
    stream(coarse, with_features=True)

    elsewhere = synthetic.ActivationGenerator(4, 0.5, device="meta")
    for with_features in (False, True):
        with pytest.raises(ValueError, match=f"^{re.escape(wanted)}torch.float32 on meta$"):
            stream(elsewhere, with_features=with_features)

    config = synthetic.SyntheticModelConfig(4, 2, seed=0)
    model = synthetic.SyntheticModel(config).to(torch.bfloat16)
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}torch.bfloat16 on cpu$"):
        stream(model)

    sparse = synthetic.ActivationGenerator(4, 0.5, use_sparse_tensors=True)
    message = (
        "^with as_numpy, source must have dense activations or with_features be True, "
        "got use_sparse_tensors=True$"
    )
    with pytest.raises(ValueError, match=message):
        stream(sparse)
    stream(sparse, with_features=True)
