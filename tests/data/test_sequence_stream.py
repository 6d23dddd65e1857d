"""Streams of worlds with sequences: whole ones, and positions of unrelated ones."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from torch.utils.data import DataLoader

import synthkern as synthetic
from synthkern import ActivationGenerator, SequenceConfig, SyntheticStream

LENGTH = 6


@pytest.fixture
def model() -> synthetic.SyntheticModel:
    generator = ActivationGenerator(
        9, 0.4, 0.3, 1.0, sequence=SequenceConfig(LENGTH, feature_persistence=0.8)
    )
    return worlds.model_of(generator, 5)


def _batches(stream: SyntheticStream, count: int) -> list[Any]:
    batches = iter(stream)
    return [next(batches) for _ in range(count)]


def test_whole_sequences_are_those_of_sample_sequences(model: synthetic.SyntheticModel) -> None:
    stream = SyntheticStream(model, 3, 7, start=2, sequences=True)
    first, second = _batches(stream, 2)
    assert first.shape == (3, LENGTH, 5)
    assert torch.equal(first, model.sample_sequences(3, seed=7, start=2))
    assert torch.equal(second, model.sample_sequences(3, seed=7, start=5))
    assert torch.equal(first[1, 4], model.sample(1, seed=7, start=3 * LENGTH + 4)[0])
    assert stream.state_dict()["position"] == 8


def test_sequences_come_with_their_features(model: synthetic.SyntheticModel) -> None:
    stream = SyntheticStream(model, 2, 7, sequences=True, with_features=True)
    hidden, features = _batches(stream, 1)[0]
    expected = model.sample_sequences(2, with_features=True, seed=7)
    worlds.assert_same((hidden, features), expected)
    assert features.shape == (2 * LENGTH, 9)


def test_a_generators_sequences_are_activations(model: synthetic.SyntheticModel) -> None:
    generator = model.activation_generator
    (batch,) = _batches(SyntheticStream(generator, 2, 7, sequences=True, as_numpy=True), 1)
    assert isinstance(batch, np.ndarray)
    assert np.array_equal(batch, generator.sample(2 * LENGTH, seed=7).view(2, LENGTH, 9).numpy())
    generator.use_sparse_tensors = True
    (batch,) = _batches(SyntheticStream(generator, 2, 7, sequences=True), 1)
    assert torch.equal(
        batch.to_dense(), generator.sample(2 * LENGTH, seed=7).to_dense().view(2, LENGTH, 9)
    )


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7])
def test_shuffled_positions_are_every_sample_once_and_of_unrelated_sequences(length: int) -> None:
    """With features that say which sample they are of: magnitudes that no two share."""
    generator = ActivationGenerator(1, 1.0, 1e-3, 1.0, sequence=SequenceConfig(length))
    size, windows = 4, 3
    batches = _batches(SyntheticStream(generator, size, 5, shuffle=True), windows * length)
    every = generator.sample(windows * length * size, seed=5).flatten()
    index = {float(value): i for i, value in enumerate(every)}
    assert len(index) == every.numel()
    seen = [[index[float(value)] for value in batch] for batch in batches]
    for number, batch in enumerate(seen):
        window = number // length * size
        assert [i // length for i in batch] == list(range(window, window + size))
    assert sorted(chain.from_iterable(seen)) == list(range(every.numel()))
    if length > 2:
        assert len({tuple(i % length for i in batch) for batch in seen}) > 1


def test_shuffled_batches_resume_and_need_no_batches_before(
    model: synthetic.SyntheticModel,
) -> None:
    stream = SyntheticStream(model, 4, 5, shuffle=True, with_features=True)
    every = _batches(stream, 10)
    state = stream.state_dict()
    assert state["position"] == 40
    resumed = SyntheticStream(model, 4, 5, shuffle=True, with_features=True)
    resumed.load_state_dict({**state, "position": 28})
    for got, expected in zip(_batches(resumed, 3), every[7:], strict=True):
        worlds.assert_same(got, expected)
    for hidden, features in every[:2]:
        assert torch.equal(hidden, model.feature_dict(features))


@pytest.mark.parametrize("way", ["sequences", "shuffle"])
def test_workers_of_a_loader_change_nothing(model: synthetic.SyntheticModel, way: str) -> None:
    stream = SyntheticStream(model, 4, 5, **{way: True})  # type: ignore[arg-type]
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    for got, expected in zip(loader, _batches(stream, 5), strict=False):
        assert torch.equal(got, expected)


def test_a_state_of_another_order_is_refused(model: synthetic.SyntheticModel) -> None:
    plain, shuffled = (SyntheticStream(model, 4, 5, shuffle=on) for on in (False, True))
    with pytest.raises(ValueError, match="state_dict must have the key 'shuffle'"):
        shuffled.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="shuffle"):
        plain.load_state_dict(shuffled.state_dict())


@pytest.mark.parametrize("way", ["sequences", "shuffle"])
def test_worlds_without_sequences_are_refused(way: str) -> None:
    with pytest.raises(ValueError, match="source must be of a world with a SequenceConfig"):
        SyntheticStream(ActivationGenerator(3, 0.5), 2, 1, **{way: True})  # type: ignore[arg-type]


def test_starts_out_of_range_are_refused(model: synthetic.SyntheticModel) -> None:
    with pytest.raises(ValueError, match="with shuffle, start must be a multiple of batch_size"):
        SyntheticStream(model, 4, 5, start=6, shuffle=True)
    with pytest.raises(ValueError, match="start must be"):
        SyntheticStream(model, 4, 5, start=2**64 // LENGTH, sequences=True)
    with pytest.raises(ValueError, match="shuffle must be False with sequences"):
        SyntheticStream(model, 4, 5, sequences=True, shuffle=True)
