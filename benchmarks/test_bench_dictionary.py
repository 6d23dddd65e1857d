"""Features through the dictionary, forwards and backwards.

    python -m pytest benchmarks/test_bench_dictionary.py

An item is a batch of 1,024 samples of the standard world.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from harness import checks, worlds

from synthkern import SparseActivations, SyntheticModel

BATCH = 1024
PRESET = "synth-sae-bench-16k"


@pytest.fixture
def world(world_of: Callable[[str], SyntheticModel]) -> SyntheticModel:
    world = world_of(PRESET)
    checks.hidden_is_the_bare_gather(world, BATCH)
    return world


@pytest.fixture
def features(world: SyntheticModel) -> SparseActivations:
    return world.sample_sparse(BATCH, seed=worlds.SEED)


@pytest.mark.parametrize("layout", ["csr", "coo", "dense"])
def test_forward(
    benchmark: Any, world: SyntheticModel, features: SparseActivations, layout: str
) -> None:
    given = {
        "csr": lambda: features,
        "coo": features.to_sparse_coo,
        "dense": features.to_dense,
    }[layout]()
    dictionary = world.feature_dict
    with torch.no_grad():
        assert torch.equal(dictionary(given), world.sample(BATCH, seed=worlds.SEED))
        benchmark.group = "dictionary forward"
        benchmark(dictionary, given)


def test_bare_gather(benchmark: Any, world: SyntheticModel, features: SparseActivations) -> None:
    """The floor under the forward pass of CSR activations."""
    benchmark.group = "dictionary forward"
    with torch.no_grad():
        benchmark(worlds.bare_gather(features, world.feature_dict.feature_vectors.detach()))


def test_gradient_of_vectors(
    benchmark: Any, world: SyntheticModel, features: SparseActivations
) -> None:
    dictionary = world.feature_dict
    hidden = dictionary(features)
    ones = torch.ones_like(hidden)
    gradient = partial(
        torch.autograd.grad, hidden, dictionary.feature_vectors, ones, retain_graph=True
    )
    # Row j of the gradient is the sum of feature j's activations, in every component.
    wanted = torch.zeros(dictionary.num_features).index_add_(
        0, features.indices.long(), features.values
    )
    torch.testing.assert_close(gradient()[0], wanted[:, None].expand(-1, dictionary.hidden_dim))
    benchmark.group = "dictionary backward"
    benchmark(gradient)
