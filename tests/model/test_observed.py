"""Observed worlds: fit(sample(world)) gives the world's statistics back, within their errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.model.observed.magnitudes import normal_of_moments, share_above_zero

_TREES = synthetic.HierarchyConfig(
    total_root_nodes=6,
    branching_factor=4,
    max_depth=2,
    mutually_exclusive_portion=0.5,
    scale_children_by_parent=True,
)


def world(n: int, **fields: Any) -> synthetic.SyntheticModel:
    firing = synthetic.ZipfianFiringProbabilityConfig(0.5, 0.4, 0.05)
    means = synthetic.LinearMagnitudeConfig(2.0, 0.5)
    given: dict[str, Any] = {
        "firing_probability": firing,
        "mean_firing_magnitudes": means,
        "std_firing_magnitudes": 0.3,
        "seed": 0,
    }
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig(n, 4, **{**given, **fields}))


def fitted(model: synthetic.SyntheticModel, count: int, **fields: Any) -> synthetic.FittedWorld:
    return synthetic.fit_world(model.sample_sparse(count, seed=1), **fields)


def assert_magnitudes(found: synthetic.FittedWorld, model: synthetic.SyntheticModel) -> None:
    """Jackknife errors of 32 groups are themselves uncertain by an eighth: a sixth of t of 31
    degrees is below 6 in all but one of a million.
    """
    plan = model.activation_generator.plan
    for value, error, true in (
        (found.mean_magnitudes, found.mean_errors, plan.mean),
        (found.std_magnitudes, found.std_errors, plan.std),
    ):
        z = (value.double() - true.double()) / error
        assert float(z.abs().max()) < 6
        assert float(z.square().mean().sqrt()) < 1.4


def assert_rates(found: synthetic.FittedWorld, model: synthetic.SyntheticModel) -> None:
    true = synthetic.effective_firing_probabilities(model)
    again = synthetic.effective_firing_probabilities(found.generator())
    for rates in (true, again):
        sigma = (found.rate_errors.square() + rates.standard_errors.square()).sqrt()
        # What calibration leaves is 0.2% of most.
        off = (found.rates - rates.probabilities).abs() - 0.004 * found.rates
        assert float((off / sigma).max()) < 5


def correlations(generator: synthetic.ActivationGenerator) -> torch.Tensor:
    assert generator.correlation is not None
    factor = generator.correlation.correlation_factor.double()
    return (factor @ factor.T).fill_diagonal_(0)


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def shape(hierarchy: synthetic.Hierarchy | None, n: int) -> set[tuple[Any, ...]]:
    """Of each feature in a tree the parent, whether it is scaled, and what its group holds."""
    if hierarchy is None:
        return set()
    forest = hierarchy.compiled(n)
    feature, group = forest.feature.tolist(), forest.group.tolist()
    members: dict[int, list[int]] = {}
    for each, number in zip(feature, group, strict=True):
        members.setdefault(number, []).append(each)
    return {
        (
            each,
            feature[parent] if parent >= 0 else -1,
            scaled,
            frozenset(members[number]) if number >= 0 else None,
        )
        for each, parent, scaled, number in zip(
            feature, forest.parent.tolist(), forest.scaled.tolist(), group, strict=True
        )
    }


def test_an_independent_world_comes_back() -> None:
    model = world(40)
    found = fitted(model, 50_000)
    assert (found.hierarchy, found.correlation) == (None, None)
    assert_rates(found, model)
    assert_magnitudes(found, model)
    base = found.base_probabilities.double()
    true = model.activation_generator.plan.probability.double()
    assert float(((base - true).abs() / found.rate_errors).max()) < 5
    assert "copula: 0 factors" in str(found)
    assert "0 of them never active" in str(found)


def test_a_tree_comes_back() -> None:
    model = world(60, hierarchy=_TREES)
    found = fitted(model, 100_000, rank=0)
    assert shape(found.hierarchy, 60) == shape(model.hierarchy, 60)
    assert_rates(found, model)
    assert_magnitudes(found, model)
    assert "54 children in 3 levels" in str(found)
    assert [level.name for level in found.describe().levels] == ["0", "1", "2", "all"]


def test_a_copula_comes_back() -> None:
    model = world(60, correlation=synthetic.LowRankCorrelationConfig(3, 0.2))
    found = fitted(model, 100_000, tree=False)
    assert_rates(found, model)
    true, guess = (correlations(each) for each in (model.activation_generator, found.generator()))
    assert found.correlation is not None
    assert found.correlation.correlation_factor.shape == (60, 3)
    # The error that is told is of the noise alone, to first order.
    assert rms(true - guess) < 2 * found.correlation_error < 0.2 * rms(true)
    assert float((true * guess).sum() / true.square().sum()) == pytest.approx(1, abs=0.05)


def test_a_tree_and_a_copula_come_back() -> None:
    trees = synthetic.HierarchyConfig(
        total_root_nodes=10,
        branching_factor=4,
        max_depth=1,
        mutually_exclusive_portion=0.5,
        scale_children_by_parent=True,
    )
    correlation = synthetic.LowRankCorrelationConfig(2, 0.25)
    model = world(100, hierarchy=trees, correlation=correlation)
    found = fitted(model, 100_000)
    assert shape(found.hierarchy, 100) == shape(model.hierarchy, 100)
    assert_rates(found, model)
    assert_magnitudes(found, model)
    true, guess = (correlations(each) for each in (model.activation_generator, found.generator()))
    assert rms(true - guess) < 2.5 * found.correlation_error
    assert float((true * guess).sum() / true.square().sum()) == pytest.approx(1, abs=0.1)


def test_exclusive_roots_are_a_group_of_their_own() -> None:
    group = Node(None, [Node(0), Node(1, [Node(3)]), Node(2)], True)
    modifier = synthetic.hierarchy_modifier(group)
    generator = synthetic.ActivationGenerator(6, 0.3, modify_activations=modifier)
    found = synthetic.fit_world(generator.sample_sparse(20_000, seed=0), rank=0)
    assert shape(found.hierarchy, 6) == {
        (0, -1, 0, frozenset({0, 1, 2})),
        (1, -1, 0, frozenset({0, 1, 2})),
        (2, -1, 0, frozenset({0, 1, 2})),
        (3, 1, 0, None),
    }
    base = found.base_probabilities
    assert base.tolist() == pytest.approx([0.3] * 6, abs=5 * (0.21 / 2000) ** 0.5)


def test_moments_of_a_cut_normal_are_inverted() -> None:
    # Of a half normal: mean sqrt(2 / pi), variance 1 - 2 / pi, times any scale.
    mean = np.array([math.sqrt(2 / math.pi), 3 * math.sqrt(2 / math.pi), 5.0, 2.0])
    variance = np.array([1 - 2 / math.pi, 9 * (1 - 2 / math.pi), 0.25, 0.0])
    means, stds = normal_of_moments(mean, variance)
    assert means.tolist() == pytest.approx([0, 0, 5, 2], abs=1e-6)
    assert stds.tolist() == pytest.approx([1, 3, 0.5, 0], abs=1e-6)
    assert share_above_zero(means, stds).tolist() == pytest.approx([0.5, 0.5, 1, 1], abs=1e-6)
    # An exponential law is heavier than any: the mean and the variance of what is seen stay near.
    means, stds = normal_of_moments(np.array([1.0]), np.array([1.0]))
    assert means[0] / stds[0] == pytest.approx(-6)


def test_cut_magnitudes_come_back_and_rates_are_those_before_the_cut() -> None:
    generator = synthetic.ActivationGenerator(3, 0.4, torch.tensor([1.0, 1.0, 0.2]), 0.5)
    found = synthetic.fit_world(generator.sample_sparse(200_000, seed=0), rank=0)
    z = (found.mean_magnitudes - 0.5) / found.mean_errors
    assert float(z.abs().max()) < 6
    assert found.base_probabilities.tolist() == pytest.approx([0.4] * 3, abs=0.02)
    assert found.rates.tolist() == pytest.approx(
        [0.4 * 0.6915, 0.4 * 0.6915, 0.4 * 0.9938], abs=0.006
    )


def inputs(sample: synthetic.SparseActivations) -> dict[str, Any]:
    arrays = sample.numpy()
    csr = SimpleNamespace(
        indptr=arrays.offsets,
        indices=arrays.indices,
        data=arrays.values,
        shape=tuple(sample.shape),
    )
    return {
        "dense": sample.to_dense(),
        "float64": sample.to_dense().double(),
        "COO": sample.to_sparse_coo(),
        "CSR": sample.to_sparse_csr(),
        "NumPy": sample.to_dense().numpy(),
        "as SciPy's": csr,
        "another with tocsr": SimpleNamespace(tocsr=lambda: csr),
        "batches": [sample[:300], sample[300:1001], sample[1001:]],
        "a generator": (sample[first : first + 500].to_dense() for first in range(0, 3000, 500)),
    }


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_every_kind_of_input_is_the_same() -> None:
    sample = world(10).sample_sparse(3000, seed=0)
    expected = synthetic.fit_world(sample)
    for name, given in inputs(sample).items():
        found = synthetic.fit_world(given)
        assert found.cfg == expected.cfg, name
        assert torch.equal(found.rates, expected.rates), name


def test_entries_out_of_order_and_stored_zeros_are_taken() -> None:
    given = SimpleNamespace(
        indptr=np.array([0, 3, 4]),
        indices=np.array([2, 0, 1, 1]),
        data=np.array([3.0, 1.0, 0.0, 2.0]),
        shape=(2, 3),
    )
    found = synthetic.fit_world(given)
    assert found.rates.tolist() == [0.5, 0.5, 0.5]
    assert found.mean_magnitudes.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (torch.zeros(0, 3), ValueError, "must have a sample and a feature"),
        (torch.zeros(3, 0), ValueError, "must have a sample and a feature"),
        ([], ValueError, "must have a sample and a feature"),
        (torch.zeros(3), ValueError, "shape"),
        (torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), ValueError, "feature 0 in sample 1"),
        ([torch.ones(2, 2), -torch.eye(2)], ValueError, "-1.0 of feature 0 in sample 2"),
        (torch.tensor([[math.inf]]), ValueError, "finite"),
        ([torch.ones(2, 2), torch.ones(2, 3)], ValueError, "one width, got 3 after 2"),
        (3, TypeError, "activations must be"),
        ("activations", TypeError, "activations must be"),
        ([1, 2], TypeError, "batches"),
        (np.array([["a"]]), TypeError, "real numbers"),
        (torch.ones(1, 1, dtype=torch.complex64), TypeError, "real numbers"),
    ],
)
def test_other_input_is_refused(given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        synthetic.fit_world(given)


@pytest.mark.parametrize(
    "fields", [{"rank": -1}, {"containment": 0.5}, {"containment": 1.1}, {"hidden_dim": 0}]
)
def test_other_settings_are_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        synthetic.fit_world(torch.ones(2, 2), **fields)


def test_features_that_are_never_active_stay_so() -> None:
    activations = torch.zeros(100, 4)
    activations[::2, 1] = 1.5
    activations[:, 2] = 2.0
    found = synthetic.fit_world(activations)
    assert found.num_silent == 2
    assert "2 of them never active" in str(found)
    sample = found.generator().sample(1000, seed=0)
    assert not sample[:, [0, 3]].any()
    assert bool((sample[:, 2] == 2).all())


def test_assumed_features_that_miss_some_have_a_tree_too() -> None:
    tree = synthetic.hierarchy_modifier(Node(0, [Node(1), Node(2)]))
    sample = synthetic.ActivationGenerator(4, 0.3, modify_activations=tree).sample(20_000, seed=0)
    # One in a hundred of the parent's firings is missed.
    missed = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) < 0.01
    sample[missed, 0] = 0
    assert synthetic.fit_world(sample, rank=0).hierarchy is None
    found = synthetic.fit_world(sample, rank=0, containment=0.95).hierarchy
    assert {row[:2] for row in shape(found, 4)} == {(0, -1), (1, 0), (2, 0)}


def test_a_fitted_world_is_a_world_like_any_other(tmp_path: Path) -> None:
    found = fitted(world(60, hierarchy=_TREES), 20_000, rank=0)
    cfg = synthetic.SyntheticModelConfig.from_dict(json.loads(json.dumps(found.cfg.to_dict())))
    assert cfg == found.cfg
    model = found.model(hidden_dim=8, bias=False)
    model.save(tmp_path)
    again = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert torch.equal(again.sample(100, seed=3), model.sample(100, seed=3))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: synthetic.ListedFiringProbabilityConfig([0.5, 1.5]), r"probabilities\[1\]"),
        (lambda: synthetic.ListedMagnitudeConfig([math.nan]), r"magnitudes\[0\]"),
        (lambda: synthetic.ListedMagnitudeConfig([1.0]).generate(2), "num_features must be 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
