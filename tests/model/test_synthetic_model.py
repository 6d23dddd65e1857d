"""The synthetic model: how it is built of a recipe, and that its ways of sampling agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import synthkern as synthetic

N, D = 48, 7


def recipe(**changes: Any) -> synthetic.SyntheticModelConfig:
    """A small world with everything in it."""
    fields: dict[str, Any] = {
        "num_features": N,
        "hidden_dim": D,
        "firing_probability": synthetic.RandomFiringProbabilityConfig(0.4, 0.2),
        "hierarchy": synthetic.HierarchyConfig(
            4, (2, 3), 2, mutually_exclusive_portion=0.5, scale_children_by_parent=True
        ),
        "correlation": synthetic.LowRankCorrelationConfig(3, 0.2),
        "std_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(0.2, 0.1),
        "mean_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(2.0, 0.1),
        "bias": 0.5,
        "seed": 11,
    }
    return synthetic.SyntheticModelConfig(**{**fields, **changes})


def generator(**changes: Any) -> synthetic.ActivationGenerator:
    fields: dict[str, Any] = {"num_features": N, "firing_probabilities": 0.3, **changes}
    return synthetic.ActivationGenerator(**fields)


def doubled(activations: torch.Tensor) -> torch.Tensor:
    return activations * 2


def replaced(**changes: Any) -> Callable[[], synthetic.SyntheticModel]:
    return lambda: synthetic.SyntheticModel(recipe(), activation_generator=generator(**changes))


def built(**changes: Any) -> Callable[[], synthetic.SyntheticModel]:
    return lambda: synthetic.SyntheticModel(recipe(**changes))


MODELS: dict[str, Callable[[], synthetic.SyntheticModel]] = {
    "everything": built(),
    "plain": built(hierarchy=None, correlation=None),
    "float16": built(dtype="float16"),
    "bfloat16": built(dtype="bfloat16"),
    "float64": built(dtype="float64"),
    "half": lambda: built()().half(),
    "sparse": replaced(use_sparse_tensors=True),
    "sparse float64": replaced(use_sparse_tensors=True, dtype=torch.float64),
    "callable": replaced(modify_activations=doubled, std_firing_magnitudes=0.5),
    "sparse callable": replaced(modify_activations=doubled, use_sparse_tensors=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_way_of_sampling_gives_the_same_bits(backend: str, name: str) -> None:
    model = MODELS[name]()
    dtype = model.feature_dict.bias.dtype
    where = {"seed": 5, "start": 2**32 - 4}
    hidden = model.sample(5, **where)
    assert hidden.shape == (5, D)
    assert hidden.dtype == dtype
    assert not hidden.requires_grad
    assert torch.equal(model(5, **where), hidden)

    with_features, features = model.sample_with_features(5, **where)
    assert torch.equal(with_features, hidden)
    assert features.shape == (5, N)
    assert features.dtype == model.activation_generator.dtype
    assert features.is_sparse is model.use_sparse_tensors
    drawn = model.activation_generator.sample(5, **where)
    assert torch.equal(drawn.to_dense(), features.to_dense())

    with_entries, entries = model.sample_with_features(5, sparse=True, **where)
    assert torch.equal(with_entries, hidden)
    assert isinstance(entries, synthetic.SparseActivations)
    assert entries.dtype == torch.float32
    assert 5 < entries.nnz < 5 * N
    assert torch.equal(entries.to_dense(features.dtype), features.to_dense())
    alone = model.sample_sparse(5, **where)
    assert torch.equal(alone.offsets, entries.offsets)
    assert torch.equal(alone.indices, entries.indices)
    assert torch.equal(alone.values, entries.values)

    assert torch.equal(model.feature_dict(entries), hidden)
    parts = [model.sample(count, seed=5, start=2**32 - 4 + at) for at, count in ((0, 1), (1, 4))]
    assert torch.equal(torch.cat(parts), hidden)


@pytest.mark.parametrize("name", ["everything", "sparse", "callable"])
def test_an_empty_batch(backend: str, name: str) -> None:
    model = MODELS[name]()
    hidden, features = model.sample_with_features(0, seed=1)
    assert hidden.shape == (0, D)
    assert features.shape == (0, N)
    assert model.sample_with_features(0, sparse=True, seed=1)[1].shape == (0, N)


def test_parts_take_seeds_that_follow_from_the_recipes() -> None:
    # Seeds past the greatest begin again.
    for seed in (11, 2**64 - 2):
        cfg = recipe(seed=seed)
        model = synthetic.SyntheticModel(cfg)
        drawn = model.activation_generator
        std, mean, forest, correlation = ((seed + part) % 2**64 for part in range(1, 5))
        assert cfg.hierarchy is not None
        expected = {
            "firing_probabilities": cfg.firing_probability.generate(N, seed),
            "std_firing_magnitudes": synthetic.generate_magnitudes(
                N, cfg.std_firing_magnitudes, std
            ),
            "mean_firing_magnitudes": synthetic.generate_magnitudes(
                N, cfg.mean_firing_magnitudes, mean
            ),
        }
        for name, numbers in expected.items():
            assert torch.equal(getattr(drawn, name), numbers), name
        assert model.hierarchy == synthetic.generate_hierarchy(N, cfg.hierarchy, forest)
        loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 3, 0.2, correlation)
        assert model.correlation_matrix is not None
        assert torch.equal(model.correlation_matrix.correlation_factor, loadings[0])
        assert torch.equal(model.correlation_matrix.correlation_diag, loadings[1])
        vectors = synthetic.FeatureDictionary(N, D, 0.5, initializer=None, seed=seed)
        assert torch.equal(model.feature_dict.feature_vectors, vectors.feature_vectors)
        assert torch.equal(model.feature_dict.bias, vectors.bias)


def test_a_correlations_own_seed_goes_before() -> None:
    model = built(correlation=synthetic.LowRankCorrelationConfig(3, 0.2, seed=4))()
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 3, 0.2, 4)
    assert model.correlation_matrix is not None
    assert torch.equal(model.correlation_matrix.correlation_factor, loadings.correlation_factor)


def test_vectors_are_orthogonalized_as_the_recipe_says() -> None:
    steps = synthetic.OrthogonalizationConfig(4, 0.05, 16)
    vectors = built(orthogonalization=steps)().feature_dict.feature_vectors
    initializer = synthetic.orthogonal_initializer(4, 0.05, chunk_size=16)
    expected = synthetic.FeatureDictionary(N, D, 0.5, initializer, seed=11).feature_vectors
    assert torch.equal(vectors, expected)
    assert not torch.equal(vectors, built()().feature_dict.feature_vectors)


def test_the_seed_of_the_world_is_not_that_of_its_samples() -> None:
    model, again, other = built()(), built()(), built(seed=12)()
    assert torch.equal(model.sample(5, seed=1), again.sample(5, seed=1))
    assert not torch.equal(model.sample(5, seed=1), model.sample(5, seed=2))
    assert not torch.equal(model.sample(5, seed=1), other.sample(5, seed=1))
    assert not torch.equal(built(seed=None)().sample(5, seed=1), model.sample(5, seed=1))


def test_samples_without_a_seed_follow_the_global_generator() -> None:
    model = built()()
    torch.manual_seed(3)
    first, second = model.sample(5), model.sample(5)
    torch.manual_seed(3)
    assert torch.equal(model(5), first)
    state = torch.get_rng_state()
    with_features = model.sample_with_features(5)[0]
    assert torch.equal(with_features, second)
    torch.set_rng_state(state)
    entries = model.sample_sparse(5)
    assert torch.equal(model.feature_dict(entries), second)
    state = torch.get_rng_state()
    model.sample(5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_compensation_multiplies_and_says_what_it_cannot_have() -> None:
    roots = [
        synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1), synthetic.HierarchyNode(2)]),
        synthetic.HierarchyNode(3, [synthetic.HierarchyNode(4)]),
    ]
    roots[0].mutually_exclusive_children = True
    cfg = synthetic.SyntheticModelConfig(
        5,
        2,
        synthetic.ConstantFiringProbabilityConfig(0.25),
        synthetic.HierarchyConfig(compensate_probabilities=True),
    )
    # (1 + 0.25 / 0.25) / 0.25 = 8 times 0.25 in the group, 4 times below feature 3.
    message = r"base probabilities above 1 of 2 of 5 features \(at most 2\)"
    with pytest.warns(UserWarning, match=message) as caught:
        model = synthetic.SyntheticModel(cfg, hierarchy=synthetic.Hierarchy(roots))
    assert caught[0].filename == __file__
    drawn = model.activation_generator
    assert drawn.firing_probabilities.tolist() == [0.25, 1.0, 1.0, 0.25, 1.0]
    assert cfg.hierarchy is not None
    cfg.hierarchy.compensate_probabilities = False
    plain = synthetic.SyntheticModel(cfg, hierarchy=synthetic.Hierarchy(roots))
    assert plain.activation_generator.firing_probabilities.tolist() == [0.25] * 5


def test_given_parts_are_used_as_they_are() -> None:
    feature_dict = synthetic.FeatureDictionary(N, D, initializer=None, seed=99)
    vectors = feature_dict.feature_vectors.detach().clone()
    drawn = generator(firing_probabilities=0.9)
    model = synthetic.SyntheticModel(recipe(), feature_dict, drawn)
    assert model.feature_dict is feature_dict
    assert model.activation_generator is drawn
    assert model.correlation_matrix is None
    assert torch.equal(feature_dict.feature_vectors, vectors)

    cfg = recipe()
    trees = synthetic.Hierarchy([synthetic.HierarchyNode(5, [synthetic.HierarchyNode(6)])])
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 2, 0.1, seed=1)
    model = synthetic.SyntheticModel(cfg, hierarchy=trees, correlation_matrix=loadings)
    assert model.cfg is cfg
    assert model.hierarchy is trees
    assert model.activation_generator.modify_activations == (trees.modifier,)
    assert model.correlation_matrix is not None
    assert torch.equal(model.correlation_matrix.correlation_factor, loadings.correlation_factor)
    features = model.sample_with_features(200, seed=1)[1]
    silent = features[:, 5] == 0
    assert bool(silent.any())
    assert not features[silent, 6].any()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"feature_dict": synthetic.FeatureDictionary(N + 1, D, initializer=None)},
            f"feature_dict must have the size ({N}, {D}) of the config, got ({N + 1}, {D})",
        ),
        (
            {"feature_dict": synthetic.FeatureDictionary(N, D + 1, initializer=None)},
            f"feature_dict must have the size ({N}, {D}) of the config, got ({N}, {D + 1})",
        ),
        (
            {"activation_generator": generator(num_features=3)},
            f"activation_generator must have the size ({N},) of the config, got (3,)",
        ),
        (
            {"hierarchy": synthetic.Hierarchy([synthetic.HierarchyNode(N)])},
            f"hierarchy must have features below num_features = {N}, got feature {N}",
        ),
        (
            {"correlation_matrix": (torch.zeros(3, 2), torch.ones(3))},
            f"correlation_factor must have shape [{N}, rank], got [3, 2]",
        ),
    ],
)
def test_parts_of_another_size_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        synthetic.SyntheticModel(recipe(), **parts)


def test_a_recipe_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^cfg must be a SyntheticModelConfig, got \{'n': 1\}$"):
        synthetic.SyntheticModel({"n": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["sample", "forward", "sample_with_features", "sample_sparse"])
@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("batch_size", [-1], ValueError),
        ("batch_size", [2.0, True], TypeError),
        ("seed", [-1, 2**64], ValueError),
        ("seed", [1.5], TypeError),
        ("start", [-1, 2**64], ValueError),
        ("start", ["0"], TypeError),
    ],
)
def test_bad_positions_are_refused(
    method: str, name: str, values: list[Any], error: type[Exception]
) -> None:
    for value in values:
        model = built(hierarchy=None, correlation=None)()
        with pytest.raises(error, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
            getattr(model, method)(**{"batch_size": 2, "seed": 1, name: value})
