"""Worlds that several test modules sample, and how samples are compared bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node

Samples = tuple[torch.Tensor, synthetic.SparseActivations]


def draw(
    model: synthetic.SyntheticModel, count: int, *, seed: int | None, start: int = 0
) -> Samples:
    """Hidden activations and features of some samples."""
    return model.sample_with_features(count, sparse=True, seed=seed, start=start)


def bits(values: torch.Tensor) -> torch.Tensor:
    """float32 numbers as their bit patterns, int32."""
    assert values.dtype == torch.float32, values.dtype
    return values.contiguous().view(torch.int32)


def assert_same_features(
    got: synthetic.SparseActivations, expected: synthetic.SparseActivations
) -> None:
    """Firing sets and values are the same to the bit; says which sample differs first."""
    assert got.shape == expected.shape
    if not torch.equal(got.offsets, expected.offsets):
        sample = int((got.offsets.diff() != expected.offsets.diff()).nonzero()[0])
        fires = [part[sample].indices.tolist() for part in (got, expected)]
        raise AssertionError(f"sample {sample} fires {fires[0]}, expected {fires[1]}")
    for name, a, b in (
        ("indices", got.indices, expected.indices),
        ("values", bits(got.values), bits(expected.values)),
    ):
        differs = (a != b).nonzero().flatten()
        assert differs.numel() == 0, f"{name} differ at entries {differs[:10].tolist()}"


def assert_same(got: Samples, expected: Samples) -> None:
    """Features and hidden activations are the same to the bit."""
    assert_same_features(got[1], expected[1])
    assert got[0].shape == expected[0].shape
    differs = (bits(got[0]) != bits(expected[0])).nonzero()
    assert differs.numel() == 0, f"hidden differs at {differs[:10].tolist()}"


def digest(samples: Samples) -> str:
    """SHA-256 of everything in some samples."""
    hidden, features = samples
    text = hashlib.sha256()
    for part in (features.offsets, features.indices, bits(features.values), bits(hidden)):
        text.update(part.numpy().tobytes())
    return text.hexdigest()


def model_of(generator: synthetic.ActivationGenerator, hidden_dim: int) -> synthetic.SyntheticModel:
    """A model around a generator, its dictionary made of fractions and no random numbers."""
    n = generator.num_features
    dictionary = synthetic.FeatureDictionary(n, hidden_dim, initializer=None, seed=0)
    feature, component = torch.arange(n)[:, None], torch.arange(hidden_dim)
    with torch.no_grad():
        dictionary.feature_vectors.copy_(((13 * feature + 7 * component) % 31 - 15) / 31)
        dictionary.bias.copy_((3 * component % 8 - 4) / 7)
    config = synthetic.SyntheticModelConfig(n, hidden_dim)
    return synthetic.SyntheticModel(config, dictionary, generator)


# ---- small worlds of literal numbers, for the golden values -----------------------------------


def _steps(count: int, step: int, modulus: int) -> torch.Tensor:
    """The fractions (step * j mod modulus) / modulus, exact in float32."""
    return (step * torch.arange(count)) % modulus / modulus


def _independent() -> synthetic.ActivationGenerator:
    probability = _steps(37, 11, 32) / 2
    probability[0], probability[1] = 0.0, 1.0
    return synthetic.ActivationGenerator(37, probability, _steps(37, 3, 4), 1 + _steps(37, 5, 8))


def _low_rank(rank: int, count: int) -> synthetic.LowRankCorrelationMatrix:
    feature, k = torch.arange(count)[:, None], torch.arange(rank)
    factor = ((7 * feature + 5 * k) % 15 - 7) / 32
    return synthetic.LowRankCorrelationMatrix(factor, 1 - factor.square().sum(dim=1))


def _low_rank_copula() -> synthetic.ActivationGenerator:
    probability = (1 + _steps(40, 5, 16) * 16) / 32
    return synthetic.ActivationGenerator(
        40, probability, _steps(40, 7, 8), 2.0, correlation_matrix=_low_rank(5, 40)
    )


def _full_copula() -> synthetic.ActivationGenerator:
    place = torch.arange(19)
    matrix = 0.5 ** (place[:, None] - place).abs()
    probability = (1 + _steps(19, 5, 16) * 16) / 24
    return synthetic.ActivationGenerator(19, probability, 0.5, 1.0, correlation_matrix=matrix)


def _hierarchy() -> synthetic.ActivationGenerator:
    """Scaling that cascades, exclusive groups, organisational nodes, a second forest."""
    deep = Node(4, [Node(9), Node(10, [Node(11)], scale_children_by_parent=True)])
    first = Node(
        0,
        [Node(1), Node(2, [Node(5), Node(6), Node(7)], mutually_exclusive_children=True), deep],
        mutually_exclusive_children=True,
        scale_children_by_parent=True,
    )
    inner = Node(None, [Node(20), Node(21), Node(22)], True, True)
    second = Node(None, [Node(16, [inner, Node(23)]), Node(17), Node(18)], True)
    later = Node(30, [Node(31), Node(3), Node(32, [Node(8), Node(33)], True)], True, True)
    probability = (12 + _steps(48, 7, 16) * 16) / 32
    return synthetic.ActivationGenerator(
        48,
        probability,
        _steps(48, 3, 4),
        1 + _steps(48, 5, 8),
        [synthetic.hierarchy_modifier([first, second]), synthetic.hierarchy_modifier(later)],
        _low_rank(3, 48),
    )


#: Generators by name.
GOLDEN: dict[str, Callable[[], synthetic.ActivationGenerator]] = {
    "independent": _independent,
    "low_rank_copula": _low_rank_copula,
    "full_copula": _full_copula,
    "hierarchy": _hierarchy,
}


def _magnitudes(distribution: synthetic.MagnitudeDistribution) -> synthetic.ActivationGenerator:
    """A scaled tree and features of their own."""
    tree = Node(0, [Node(1, [Node(2, scale_children_by_parent=True), Node(3)]), Node(4)])
    tree.scale_children_by_parent = True
    probability = (8 + _steps(30, 7, 16) * 16) / 24
    mean = 1 + _steps(30, 5, 8)
    return synthetic.ActivationGenerator(
        30,
        probability.clamp(max=1),
        mean * _steps(30, 3, 8),
        mean,
        synthetic.hierarchy_modifier(tree),
        _low_rank(3, 30),
        magnitude_distribution=distribution,
    )


#: The same with other magnitudes than plain normals.
GOLDEN_MAGNITUDES: dict[str, Callable[[], synthetic.ActivationGenerator]] = {
    "correlated_normal": lambda: _magnitudes(
        synthetic.NormalMagnitudeDistribution(correlation=0.25)
    ),
    "lognormal": lambda: _magnitudes(synthetic.LognormalMagnitudeDistribution()),
    "exponential": lambda: _magnitudes(synthetic.ExponentialMagnitudeDistribution()),
    "pareto": lambda: _magnitudes(synthetic.ParetoMagnitudeDistribution()),
    "correlated_pareto": lambda: _magnitudes(
        synthetic.ParetoMagnitudeDistribution(alpha=1.5, correlation=0.75)
    ),
}


# ---- worlds of a few hundred features, which no table of the samplers divides evenly -------------


def _middle(**arguments: object) -> synthetic.SyntheticModel:
    probability = synthetic.zipfian_firing_probabilities(601, 0.5, 0.95, 0.02)
    std = synthetic.generate_magnitudes(601, synthetic.FoldedNormalMagnitudeConfig(0.5, 0.5), 3)
    mean = synthetic.generate_magnitudes(601, synthetic.LinearMagnitudeConfig(5.0, 0.5))
    return model_of(
        synthetic.ActivationGenerator(601, probability, std, mean, **arguments),  # type: ignore[arg-type]
        97,
    )


def _middle_hierarchy() -> synthetic.SyntheticModel:
    recipe = synthetic.HierarchyConfig(
        5, (2, 5), 3, mutually_exclusive_portion=0.6, scale_children_by_parent=True
    )
    return _middle(
        modify_activations=synthetic.generate_hierarchy(601, recipe, 5).modifier,
        correlation_matrix=synthetic.generate_random_low_rank_correlation_matrix(601, 11, 0.15, 7),
    )


def _middle_full() -> synthetic.SyntheticModel:
    factor = torch.randn(131, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance = factor @ factor.T + 20 * factor[:, :1] @ factor[:, :1].T
    deviation = covariance.diagonal().sqrt()
    return model_of(
        synthetic.ActivationGenerator(
            131, 0.125, 0.5, 1.0, correlation_matrix=covariance / (deviation[:, None] * deviation)
        ),
        97,
    )


#: Models by name.
MIDDLE: dict[str, Callable[[], synthetic.SyntheticModel]] = {
    "hierarchy": _middle_hierarchy,
    "independent": _middle,
    "full": _middle_full,
}
