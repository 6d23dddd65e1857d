"""Streams of tuples: a world's samples in several views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import synthkern as synthetic

BATCH = 8


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    views = synthetic.ViewsConfig(hidden_dims=[6], map=synthetic.MapConfig(4, 3, fan_in=2))
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig(12, 5, seed=1, views=views))


def wanted(model: synthetic.SyntheticModel, start: int) -> tuple[torch.Tensor, ...]:
    return model.sample_views(BATCH, seed=3, start=start)


def same(found: Any, expected: Any) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_tuples(model: synthetic.SyntheticModel, prefetch: int) -> None:
    stream = synthetic.SyntheticStream(model, BATCH, seed=3, views=True, prefetch=prefetch)
    for number, batch in zip(range(3), stream, strict=False):
        assert isinstance(batch, tuple)
        assert same(batch, wanted(model, number * BATCH))
    assert stream.views == (0, 1, 2)


def test_some_views(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, BATCH, seed=3, views=[2, 0])
    first, _, last = wanted(model, 0)
    assert same(next(iter(stream)), (last, first))


def test_resumed(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, BATCH, seed=3, views=True)
    batches = iter(stream)
    next(batches)
    other = synthetic.SyntheticStream(model, BATCH, seed=3, views=True)
    other.load_state_dict(stream.state_dict())
    assert same(next(iter(other)), next(batches))


def test_workers_of_a_data_loader(model: synthetic.SyntheticModel) -> None:
    stream = synthetic.SyntheticStream(model, BATCH, seed=3, views=True)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    for number, batch in zip(range(4), loader, strict=False):
        assert same(batch, wanted(model, number * BATCH))


def test_arrays_and_features(model: synthetic.SyntheticModel) -> None:
    arrays: Any = next(
        iter(synthetic.SyntheticStream(model, BATCH, seed=3, views=True, as_numpy=True))
    )
    for found, expected in zip(arrays, wanted(model, 0), strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, expected.numpy())
    both: Any = next(
        iter(synthetic.SyntheticStream(model, BATCH, seed=3, views=True, with_features=True))
    )
    hidden, features = model.sample_views_with_features(BATCH, seed=3)
    assert same(both[0], hidden)
    assert same([f.to_dense() for f in both[1]], [f.to_dense() for f in features])


@pytest.mark.parametrize(
    ("views", "error", "says"),
    [
        ([3], ValueError, "views must be an integer .* got 3"),
        ([], ValueError, "views must name a view at least"),
        ("all", TypeError, "views must be True, False or the numbers of views, got 'all'"),
        ([0.5], TypeError, "views must be an integer, got 0.5"),
    ],
)
def test_views_that_there_are_not(
    model: synthetic.SyntheticModel, views: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        synthetic.SyntheticStream(model, BATCH, seed=3, views=views)


def test_sources_without_views(model: synthetic.SyntheticModel) -> None:
    plain = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(4, 3))
    for source in (plain, model.activation_generator):
        with pytest.raises(ValueError, match="views must be False for a source without views"):
            synthetic.SyntheticStream(source, BATCH, seed=3, views=True)
