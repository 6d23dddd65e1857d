"""The activation generator: values by hand, sizes, dtypes, sparse samples, attributes, moves."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch

from synthkern import ActivationGenerator, LowRankCorrelationMatrix, _core


@pytest.mark.usefixtures("backend", "instruction_set")
def test_certain_features_without_spread_have_their_means() -> None:
    world = ActivationGenerator(
        5, torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]), 0.0, torch.tensor([2.0, 3.0, -1.0, 0.5, 0.0])
    )
    expected = torch.tensor([2.0, 0.0, 0.0, 0.5, 0.0]).repeat(7, 1)
    assert torch.equal(world.sample(7, seed=1), expected)
    sparse = world.sample_sparse(7, seed=1)
    assert sparse.indices.tolist() == [0, 3] * 7  # what is not above zero is not there
    assert torch.equal(sparse.to_dense(), expected)


@pytest.mark.usefixtures("backend")
def test_defaults_are_independent_unit_magnitudes_in_float32() -> None:
    world = ActivationGenerator(3, 0.5)
    sample = world.sample(200)
    assert sample.dtype == torch.float32
    assert sample.layout == torch.strided
    assert sample.unique().tolist() == [0.0, 1.0]
    assert world.device == torch.device("cpu")
    assert world.correlation_matrix is None
    assert world.low_rank_correlation is None
    assert world.modify_activations is None
    assert not world.use_sparse_tensors


@functools.cache
def _large_sample() -> torch.Tensor:
    """1,024 samples of a world of 1,024 features: any smaller one is a corner of it."""
    return _world_of(1024).sample(1024, seed=3)


def _world_of(n: int) -> ActivationGenerator:
    probability, std = torch.linspace(0, 1, 1024), torch.linspace(1, 0, 1024)
    return ActivationGenerator(n, probability[:n], std[:n])


@pytest.mark.parametrize("engine", ["reference", *_core.instruction_sets()])
@pytest.mark.parametrize("n", [1, 3, 15, 16, 17, 1023])
@pytest.mark.parametrize("batch", [0, 1, 3, 1023])
def test_odd_sizes(engine: str, batch: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent features and samples do not know of the others, whatever the tails are."""
    expected = _large_sample()[:batch, :n]
    before = _core.instruction_set()
    if engine == "reference":
        monkeypatch.setenv("SYNTHKERN_BACKEND", engine)
    else:
        _core.choose_instruction_set(engine)
    try:
        dense = _world_of(n).sample(batch, seed=3)
        sparse = _world_of(n).sample_sparse(batch, seed=3)
    finally:
        _core.choose_instruction_set(before)
    assert dense.shape == sparse.shape == (batch, n)
    assert torch.equal(dense, expected)
    assert torch.equal(sparse.to_dense(), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("as_name", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_round_the_same_sample(dtype: torch.dtype, as_name: bool) -> None:
    def world(dtype: Any, sparse: bool = False) -> ActivationGenerator:
        return ActivationGenerator(33, 0.3, 0.7, 2.0, dtype=dtype, use_sparse_tensors=sparse)

    expected = world("float32").sample(50, seed=4)
    name = str(dtype).removeprefix("torch.") if as_name else dtype
    sample = world(name).sample(50, seed=4)
    assert sample.dtype == dtype
    assert torch.equal(sample, expected.to(dtype))
    coo = world(name, sparse=True).sample(50, seed=4)
    assert coo.dtype == dtype
    assert torch.equal(coo.to_dense(), sample)
    # CSR samples are the stream's own numbers.
    assert torch.equal(world(name).sample_sparse(50, seed=4).to_dense(), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("batch", [0, 1, 40])
def test_sparse_tensors_are_coalesced_and_equal_dense_ones(batch: int) -> None:
    worlds = [ActivationGenerator(20, 0.2, 0.5, use_sparse_tensors=s) for s in (False, True)]
    dense, coo = (world.sample(batch, seed=8) for world in worlds)
    assert coo.layout == torch.sparse_coo
    assert coo.is_coalesced()
    assert coo.shape == (batch, 20)
    assert bool((coo.values() > 0).all())
    assert torch.equal(coo.to_dense(), dense)


@pytest.mark.usefixtures("backend")
def test_calling_and_forward_are_sample() -> None:
    world = ActivationGenerator(9, 0.5, 0.5)
    expected = world.sample(20, seed=2, start=5)
    assert torch.equal(world(20, seed=2, start=5), expected)
    assert torch.equal(world.forward(20, seed=2, start=5), expected)
    assert not expected.requires_grad


def test_arguments_may_be_scalars_numpy_scalars_or_tensors_of_any_float_dtype() -> None:
    expected = ActivationGenerator(4, 0.25, 0.5, 2.0).sample(30, seed=1)
    for make in (np.float64, np.float32, torch.tensor, lambda x: torch.full((4,), x).bfloat16()):
        world = ActivationGenerator(4, make(0.25), make(0.5), make(2.0))
        assert torch.equal(world.sample(30, seed=1), expected)
    parameter = torch.full((4,), 0.25, dtype=torch.float64, requires_grad=True)
    world = ActivationGenerator(4, parameter, 0.5, 2)
    assert torch.equal(world.sample(30, seed=1), expected)
    assert not world.firing_probabilities.requires_grad


def test_later_changes_of_what_was_given_change_nothing() -> None:
    p, mean, std = torch.full((8,), 0.5), torch.full((8,), 2.0), torch.full((8,), 0.5)
    factor, diag = torch.full((8, 1), 0.6), torch.full((8,), 0.64)
    world = ActivationGenerator(8, p, std, mean, correlation_matrix=(factor, diag))
    expected = world.sample(30, seed=1)
    for tensor in (factor, diag):
        tensor.zero_()
    world = world.to(torch.float32)
    assert torch.equal(world.sample(30, seed=1), expected)


@pytest.mark.parametrize("name", ["firing_probabilities", "mean_firing_magnitudes"])
def test_numbers_that_were_given_are_live_as_far_as_they_can_be(name: str) -> None:
    given = {"firing_probabilities": torch.full((4,), 0.5), "mean_firing_magnitudes": torch.ones(4)}
    world = ActivationGenerator(4, **given)
    other = ActivationGenerator(4, **{key: value.double() for key, value in given.items()})
    expected = world.sample(50, seed=1)
    given[name].mul_(0.0)
    assert not world.sample(50, seed=1).any()
    assert torch.equal(other.sample(50, seed=1), expected)
    # A copy is a world of its own, and so is one that was assigned another tensor.
    given[name].add_(0.5)
    twin = copy.deepcopy(world)
    here = world.sample(50, seed=1)
    assigned = torch.full((4,), 0.5)
    setattr(world, name, assigned)
    given[name].zero_()
    assert torch.equal(twin.sample(50, seed=1), here)
    assert torch.equal(world.sample(50, seed=1), here)
    assigned.zero_()
    assert not world.sample(50, seed=1).any()
    assert torch.equal(twin.sample(50, seed=1), here)


def test_a_parameter_that_is_given_is_read_as_a_tensor() -> None:
    rates = torch.nn.Parameter(torch.full((4,), 0.5))
    world = ActivationGenerator(4, rates)
    with torch.no_grad():
        rates.zero_()
    assert not world.sample(20, seed=1).any()
    world.firing_probabilities = torch.nn.Parameter(torch.ones(4))
    assert bool(world.sample(20, seed=1).all())
    assert not list(world.parameters())


def test_attributes_say_what_was_given() -> None:
    p, factor = torch.tensor([0.25, 0.5]), torch.tensor([[0.6], [0.8]])
    pair = (factor, torch.tensor([0.64, 0.36]))
    world = ActivationGenerator(2, p, 0.5, 2.0, [torch.relu], pair, dtype="float64")
    assert torch.equal(world.firing_probabilities, p)
    assert world.std_firing_magnitudes.tolist() == [0.5, 0.5]
    assert world.mean_firing_magnitudes.tolist() == [2.0, 2.0]
    assert world.modify_activations == (torch.relu,)
    assert world.dtype == torch.float64
    assert isinstance(world.correlation, LowRankCorrelationMatrix)
    assert torch.equal(world.correlation.correlation_factor, factor)
    assert world.correlation_matrix is None
    full = ActivationGenerator(2, p, correlation_matrix=torch.eye(2))
    assert torch.equal(full.correlation_matrix, torch.eye(2))
    assert full.low_rank_correlation is None
    for name in (
        "plan",
        "correlation_thresholds",
        "is_fused",
    ):
        with pytest.raises(AttributeError):
            setattr(world, name, getattr(full, name))


def test_moving_to_a_dtype_that_samples_cannot_have_is_refused() -> None:
    world = ActivationGenerator(3, 0.5)
    with pytest.raises(ValueError, match=r"dtype must be one of .* got torch\.float8"):
        world.to(torch.float8_e4m3fn)
    assert world.sample(2).dtype == torch.float32


@pytest.mark.usefixtures("backend")
def test_a_full_matrix_is_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ActivationGenerator(
        3, 0.5, correlation_matrix=torch.full((3, 3), 0.3).fill_diagonal_(1)
    )
    for name in ("cholesky", "cholesky_ex", "eigh"):
        monkeypatch.setattr(torch.linalg, name, None)
    assert not torch.equal(world.sample(50, seed=1), world.sample(50, seed=2))
