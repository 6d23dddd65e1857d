"""Samples of every distribution of magnitudes have the same bits, whatever draws them."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
import worlds
import zoo

import synthkern as synthetic

LAWS = {
    "correlated normals": ("normal", 0.4, {}),
    "lognormal": ("lognormal", 0.0, {}),
    "correlated exponential": ("exponential", 0.6, {}),
    "pareto": ("pareto", 0.0, {"alpha": 3.0}),
    "the same pareto": ("pareto", 1.0, {}),
}
COUNT, SEED, START = 203, 11, 2**64 - 100


@pytest.fixture(params=LAWS)
def world(request: pytest.FixtureRequest) -> synthetic.ActivationGenerator:
    name, correlation, more = LAWS[request.param]
    return zoo.magnitudes(name, correlation, **more)


@pytest.fixture
def expected(
    world: synthetic.ActivationGenerator, monkeypatch: pytest.MonkeyPatch
) -> synthetic.SparseActivations:
    """By the reference."""
    with monkeypatch.context() as patch:
        patch.setenv("SYNTHKERN_BACKEND", "reference")
        return world.sample_sparse(COUNT, seed=SEED, start=START)


@pytest.mark.usefixtures("instruction_set")
def test_instruction_sets_threads_and_batch_sizes(
    world: synthetic.ActivationGenerator, expected: synthetic.SparseActivations
) -> None:
    assert expected.nnz > 10 * COUNT
    for threads in (1, 3):
        torch.set_num_threads(threads)
        got = world.sample_sparse(COUNT, seed=SEED, start=START)
        worlds.assert_same_features(got, expected)
    ends = [0, 1, 4, 37, 100, COUNT]
    parts = [
        world.sample_sparse(b - a, seed=SEED, start=(START + a) % 2**64)
        for a, b in itertools.pairwise(ends)
    ]
    worlds.assert_same_features(synthetic.SparseActivations.cat(parts), expected)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("correlation", ["none", "full"])
def test_without_a_copula_and_with_a_full_one(
    correlation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = synthetic.ActivationGenerator(
        33,
        0.5,
        0.7,
        1.0,
        correlation_matrix=zoo.full(33) if correlation == "full" else None,
        magnitude_distribution=synthetic.ParetoMagnitudeDistribution(correlation=0.5),
    )
    with monkeypatch.context() as patch:
        patch.setenv("SYNTHKERN_BACKEND", "reference")
        expected = world.sample_sparse(50, seed=1)
    worlds.assert_same_features(world.sample_sparse(50, seed=1), expected)


@pytest.mark.parametrize("name", ["lognormal", "exponential", "pareto"])
def test_fire_as_constant_magnitudes_do(name: str) -> None:
    """Magnitudes move no firing, and no choice among siblings: words are what they were."""
    world = zoo.magnitudes(name, 0.5)
    plain = synthetic.ActivationGenerator(
        150,
        world.firing_probabilities,
        0.0,
        1.0,
        world.modify_activations,
        world.correlation,
    )
    fires = [each.sample_sparse(500, seed=3) for each in (world, plain)]
    assert torch.equal(fires[0].offsets, fires[1].offsets)
    assert torch.equal(fires[0].indices, fires[1].indices)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["lognormal", "exponential", "pareto"])
def test_children_scale_with_their_parent_over_its_true_mean(name: str) -> None:
    """Location and scale are other numbers than the mean, by which a parent's value is divided."""
    tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)], scale_children_by_parent=True)
    mean, std = torch.tensor([2.0, 3.0]), torch.tensor([1.5, 1.0])

    def drawn(modifier: object) -> torch.Tensor:
        return synthetic.ActivationGenerator(
            2, 1.0, std, mean, modifier, magnitude_distribution=name
        ).sample(20, seed=5)

    free, scaled = drawn(None), drawn(synthetic.hierarchy_modifier(tree))
    assert torch.equal(scaled[:, 0], free[:, 0])
    assert torch.equal(scaled[:, 1], free[:, 1] * (free[:, 0] / 2.0))
    assert float(free.std()) > 0.5


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_dtype_is_the_float32_sample_rounded(dtype: str) -> None:
    def drawn(kind: str) -> torch.Tensor:
        return synthetic.ActivationGenerator(
            9, 0.7, 0.7, 1.0, dtype=kind, magnitude_distribution="pareto"
        ).sample(7, seed=2)

    assert torch.equal(drawn(dtype), drawn("float32").to(getattr(torch, dtype)))


def test_a_copy_and_a_move_keep_the_distribution(world: synthetic.ActivationGenerator) -> None:
    expected = world.sample(20, seed=1)
    for same in (copy.deepcopy(world), pickle.loads(pickle.dumps(world)), world.to("cpu")):
        assert torch.equal(same.sample(20, seed=1), expected)


def test_an_empty_batch(world: synthetic.ActivationGenerator) -> None:
    assert world.sample(0, seed=1).shape == (0, 150)
