"""Distributions on small worlds made for one question each, with many samples and fixed seeds.

p-values above LEAST pass: with the fixed seeds each test has one outcome, and a correct sampler
would fail one of them with another seed in ten thousand tries.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import (
    binomtest,
    chi2_contingency,
    chisquare,
    kstest,
    multivariate_normal,
    norm,
    truncnorm,
)

from synthkern import ActivationGenerator, HierarchyNode, hierarchy_modifier

LEAST = 1e-4
COUNT = 400_000


def _active(world: ActivationGenerator, count: int = COUNT, seed: int = 77) -> np.ndarray:
    return world.sample(count, seed=seed).numpy() > 0


def _family(parent: int | None, children: range) -> HierarchyNode:
    nodes = [HierarchyNode(child) for child in children]
    return HierarchyNode(parent, nodes, mutually_exclusive_children=True)


# The first forest of a world draws priorities from other words than later ones.
@pytest.mark.parametrize("ordinal", [0, 1])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("parent", [None, 0], ids=["organisational", "feature"])
@pytest.mark.parametrize("siblings", [2, 3, 5, 19])
def test_exclusive_survivors_are_uniform(
    ordinal: int, correlated: bool, parent: int | None, siblings: int
) -> None:
    n = siblings + 1
    correlation = (torch.zeros(n, 1), torch.ones(n)) if correlated else None
    modifiers = [hierarchy_modifier([]), hierarchy_modifier(_family(parent, range(1, n)))]
    world = ActivationGenerator(
        n, 1.0, modify_activations=modifiers[1 - ordinal :], correlation_matrix=correlation
    )
    active = _active(world, 100_000)[:, 1:]
    assert (active.sum(axis=1) == 1).all()
    assert chisquare(active.sum(axis=0)).pvalue > LEAST


@pytest.mark.many_samples
@pytest.mark.usefixtures("backend", "instruction_set")
def test_exclusive_survivors_are_uniform_on_every_backend() -> None:
    world = ActivationGenerator(
        4, 1.0, modify_activations=hierarchy_modifier(_family(0, range(1, 4)))
    )
    assert chisquare(_active(world, 30_000)[:, 1:].sum(axis=0)).pvalue > LEAST


def test_rare_siblings_lose_no_more_often_than_frequent_ones() -> None:
    """With probabilities p, sibling i stays with p_i E[1 / (1 + number of others that fire)]."""
    p = torch.tensor([1.0, 0.9, 0.5, 0.1])
    world = ActivationGenerator(
        4, p, modify_activations=hierarchy_modifier(_family(0, range(1, 4)))
    )
    counts = _active(world)[:, 1:].sum(axis=0)
    for i, others in enumerate([(0.5, 0.1), (0.9, 0.1), (0.9, 0.5)]):
        a, b = others
        stays = (1 - a) * (1 - b) + (a * (1 - b) + b * (1 - a)) / 2 + a * b / 3
        rate = [0.9, 0.5, 0.1][i] * stays
        assert binomtest(int(counts[i]), COUNT, rate).pvalue > LEAST, (i, counts[i] / COUNT, rate)


def test_choices_are_independent_of_each_other_and_of_magnitudes() -> None:
    """Of two groups, of one sample and the next, and of how strongly the winner fires."""
    families = [_family(0, range(1, 4)), _family(4, range(5, 8))]
    world = ActivationGenerator(8, 1.0, 1.0, 5.0, hierarchy_modifier(families))
    values = world.sample(COUNT, seed=5).numpy()
    first, second = values[:, 1:4].argmax(axis=1), values[:, 5:8].argmax(axis=1)
    for a, b in [(first, second), (first[:-1], first[1:]), (first[:-1], second[1:])]:
        table = np.zeros((3, 3))
        np.add.at(table, (a, b), 1)
        assert chi2_contingency(table).pvalue > LEAST
    won = values[:, 1:4].max(axis=1)
    assert kstest(won[::10], truncnorm(-5, np.inf, 5, 1).cdf).pvalue > LEAST


def test_independent_features_are_independent() -> None:
    p = np.array([0.02, 0.1, 0.3, 0.5, 0.9], dtype=np.float32)
    active = _active(ActivationGenerator(5, torch.from_numpy(p))).astype(float)
    together = active.T @ active
    for i in range(5):
        for j in range(i, 5):
            rate = float(p[i]) * (float(p[j]) if i != j else 1.0)
            assert binomtest(int(together[i, j]), COUNT, rate).pvalue > LEAST, (i, j)


def _low_rank(matrix: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix with one factor for each positive eigenvalue beyond a common diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    rest = 0.9 * values[0]
    factor = torch.from_numpy(vectors * np.sqrt(values - rest))
    return factor, 1 - factor.square().sum(dim=1)


@pytest.mark.parametrize("full", [True, False], ids=["full", "low-rank"])
def test_copula_gives_the_joint_probabilities_of_a_normal(full: bool) -> None:
    matrix = np.eye(4)
    for (i, j), rho in {(0, 1): 0.9, (0, 2): -0.5, (1, 2): -0.3, (2, 3): 0.2}.items():
        matrix[i, j] = matrix[j, i] = rho
    p = np.array([0.01, 0.05, 0.4, 0.8], dtype=np.float32)
    world = ActivationGenerator(
        4,
        torch.from_numpy(p),
        correlation_matrix=torch.from_numpy(matrix) if full else _low_rank(matrix),
    )
    active = _active(world).astype(float)
    together = active.T @ active
    lower = -norm.isf(p.astype(float))
    for i in range(4):
        assert binomtest(int(together[i, i]), COUNT, float(p[i])).pvalue > LEAST, i
        for j in range(i):
            cov = [[1, matrix[i, j]], [matrix[i, j], 1]]
            rate = float(multivariate_normal.cdf([lower[i], lower[j]], cov=cov))
            assert binomtest(int(together[i, j]), COUNT, rate).pvalue > LEAST, (i, j, rate)


@pytest.mark.parametrize("correlated", [False, True])
def test_rare_certain_and_impossible_features(correlated: bool) -> None:
    p = torch.tensor([0.0, 1e-5, 1e-4, 1 - 1e-4, 1.0])
    correlation = (torch.full((5, 1), 0.6), torch.full((5,), 0.64)) if correlated else None
    counts = _active(ActivationGenerator(5, p, correlation_matrix=correlation), 2**21).sum(axis=0)
    assert counts[0] == 0
    assert counts[4] == 2**21
    for j in (1, 2, 3):
        assert binomtest(int(counts[j]), 2**21, float(p[j])).pvalue > LEAST, (j, counts[j])


@pytest.mark.parametrize(("mean", "std"), [(1.0, 0.5), (0.0, 1.0), (-1.0, 2.0), (3.0, 0.0)])
def test_magnitudes_follow_the_normal_above_zero(mean: float, std: float) -> None:
    value = ActivationGenerator(1, 0.5, std, mean).sample_sparse(COUNT, seed=3).values.numpy()
    alive = norm.cdf(mean / std) if std else 1.0
    assert binomtest(value.size, COUNT, 0.5 * alive).pvalue > LEAST
    if std:
        assert kstest(value, truncnorm(-mean / std, np.inf, mean, std).cdf).pvalue > LEAST
    else:
        assert (value == mean).all()


def test_features_samples_and_seeds_share_no_randomness() -> None:
    """Magnitudes of neighbours in every direction are uncorrelated."""
    world = ActivationGenerator(40, 1.0, 1.0, 100.0)
    values = world.sample(20_000, seed=9).double().numpy() - 100
    other = world.sample(20_000, seed=10).double().numpy() - 100
    for a, b in [(values[1:], values[:-1]), (values[:, 1:], values[:, :-1]), (values, other)]:
        # The mean of n products of independent standard normals has standard deviation 1/sqrt(n).
        assert abs((a * b).mean()) < norm.isf(LEAST / 2) / np.sqrt(a.size)
