"""Worlds whose magnitudes are not plain normals: rates, tables, files and fingerprints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.model.fingerprint import config_fingerprint
from synthkern.model.world_key import is_worth_keeping, world_key

HEAVY = synthetic.ParetoMagnitudeDistribution(alpha=2.5, correlation=0.5)


def config(distribution: Any = HEAVY, **changes: Any) -> synthetic.SyntheticModelConfig:
    given: dict[str, Any] = {
        "firing_probability": synthetic.ConstantFiringProbabilityConfig(0.3),
        "hierarchy": synthetic.HierarchyConfig(2, 3, 2, scale_children_by_parent=True),
        "correlation": synthetic.LowRankCorrelationConfig(rank=3),
        "std_firing_magnitudes": 0.5,
        "seed": 3,
    }
    return synthetic.SyntheticModelConfig(
        40, 12, magnitude_distribution=distribution, **{**given, **changes}
    )


# ---- files and fingerprints ----------------------------------------------------------------------


def test_a_saved_world_comes_back(tmp_path: Path) -> None:
    model = synthetic.SyntheticModel(config())
    model.save(tmp_path)
    same = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert same.cfg == model.cfg
    assert same.cfg.magnitude_distribution == HEAVY
    assert same.fingerprint == model.fingerprint
    assert torch.equal(same.sample(50, seed=1), model.sample(50, seed=1))


def test_a_generator_that_was_given_is_saved_with_its_own_distribution(tmp_path: Path) -> None:
    plain = config("normal", hierarchy=None, correlation=None)
    generator = synthetic.ActivationGenerator(40, 0.3, 0.5, 1.0, magnitude_distribution=HEAVY)
    model = synthetic.SyntheticModel(plain, activation_generator=generator)
    assert model.fingerprint != synthetic.SyntheticModel(plain).fingerprint
    model.save(tmp_path)
    same = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert same.activation_generator.magnitude_distribution == HEAVY
    assert torch.equal(same.sample(50, seed=1), model.sample(50, seed=1))
    # And the other way round.
    usual = synthetic.ActivationGenerator(40, 0.3, 0.5, 1.0)
    config_of_heavy = dataclasses.replace(plain, magnitude_distribution=HEAVY)
    model = synthetic.SyntheticModel(config_of_heavy, activation_generator=usual)
    model.save(tmp_path)
    same = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert same.cfg.magnitude_distribution == "normal"


def test_fingerprints_tell_distributions_apart_and_the_normal_has_the_one_it_had() -> None:
    given = ["normal", {"name": "normal", "correlation": 0.5}, "lognormal", "pareto", HEAVY]
    found = [config_fingerprint(config(each)) for each in given]
    assert len(set(found)) == len(given)
    assert len({world_key(config(each)) for each in given}) == len(given)
    same = [{"name": "normal"}, synthetic.NormalMagnitudeDistribution()]
    assert [config_fingerprint(config(each)) for each in same] == [found[0]] * 2
    # Of 40 features in 12 dimensions and a seed, as it was before there were distributions.
    old = synthetic.SyntheticModelConfig(40, 12, seed=3)
    assert config_fingerprint(old) == (
        "fa9f9be79e0e5bd30ce7e35cf3b85ca94585174fe2480595e56b73ad850ff70a"
    )


def test_a_slow_world_is_kept_in_the_cache() -> None:
    slow = synthetic.OrthogonalizationConfig(num_steps=5)
    assert is_worth_keeping(config(orthogonalization=slow))


# ---- tables --------------------------------------------------------------------------------------


def test_a_table_has_the_deviations_that_magnitudes_have() -> None:
    flat = {"hierarchy": None, "correlation": None}
    (row,) = synthetic.describe_world(config(**flat)).levels[-1:]
    assert row.mean_magnitude == 1
    assert row.std_magnitude == pytest.approx((2.5 * 0.5) ** -0.5)
    for name in ("lognormal", "exponential", "pareto"):
        (row,) = synthetic.describe_world(config(name, **flat)).levels[-1:]
        assert row.std_magnitude == 0.5


def test_a_table_says_which_distribution_it_is() -> None:
    lines = str(synthetic.describe_world(config())).splitlines()
    assert lines[2] == "magnitudes: pareto, correlation 0.5, alpha 2.5"
    assert "magnitudes:" not in str(synthetic.describe_world(config("normal")))


# ---- rates ---------------------------------------------------------------------------------------


def counted(generator: synthetic.ActivationGenerator, count: int = 200_000) -> torch.Tensor:
    drawn = generator.sample_sparse(count, seed=77)
    return torch.bincount(drawn.indices.long(), minlength=generator.num_features) / count


def test_heavy_tails_are_above_zero_so_that_rates_are_those_of_firing() -> None:
    model = synthetic.SyntheticModel(config("lognormal", correlation=None))
    rates = synthetic.effective_firing_probabilities(model)
    constant = synthetic.SyntheticModel(config("normal", correlation=None, std_firing_magnitudes=0))
    assert torch.equal(
        rates.probabilities, synthetic.effective_firing_probabilities(constant).probabilities
    )
    assert rates.method == "closed form"


@pytest.mark.many_samples
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("copula", [False, True], ids=["independent", "copula"])
def test_magnitudes_that_are_clipped_together_are_counted_on(copula: bool, strength: float) -> None:
    """A child whose magnitude is clipped where its parent's is fires more often than 1/2 * 1/2."""
    tree = Node(0, [Node(1, [Node(2)]), Node(3), Node(4)], mutually_exclusive_children=True)
    correlation = (
        synthetic.generate_random_low_rank_correlation_matrix(7, 2, 0.3, seed=1) if copula else None
    )
    world = synthetic.ActivationGenerator(
        7,
        torch.tensor([0.9, 0.8, 0.7, 0.4, 0.3, 0.5, 0.5]),
        torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 0.0]),
        torch.tensor([0.0, 0.5, 0.0, 0.2, 1.0, 1.0, 0.0]),
        synthetic.hierarchy_modifier(tree),
        correlation,
        magnitude_distribution={"name": "normal", "correlation": strength},
    )
    rates = synthetic.effective_firing_probabilities(world)
    assert rates.method == "Monte Carlo over factors"
    found = counted(world)
    error = (found * (1 - found) / 200_000 + rates.standard_errors.square()).sqrt()
    assert bool(((found - rates.probabilities).abs() < 5 * error + 1e-9).all()), (
        found,
        rates.probabilities,
    )
    assert rates.probabilities[6] == 0
    if not copula:
        assert float(rates.probabilities[0]) == pytest.approx(0.45, abs=1e-6)
        if strength == 1:  # where the parent is above 0, so is the child
            assert float(rates.probabilities[2] / rates.probabilities[1]) == pytest.approx(
                0.7, abs=2e-3
            )


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_two_that_are_clipped_together_have_a_closed_form(strength: float) -> None:
    """Two normals of mean 0 are both above it with probability 1/4 + asin(c) / (2 pi)."""
    world = synthetic.ActivationGenerator(
        2,
        torch.tensor([0.9, 0.8]),
        1.0,
        0.0,
        synthetic.hierarchy_modifier(Node(0, [Node(1)])),
        magnitude_distribution={"name": "normal", "correlation": strength},
    )
    rates = synthetic.effective_firing_probabilities(world)
    expected = [0.45, 0.72 * (0.25 + math.asin(strength) / (2 * math.pi))]
    errors = 4 * rates.standard_errors + 1e-6
    assert bool(((rates.probabilities - torch.tensor(expected)).abs() < errors).all())
    assert float(rates.standard_errors.max()) < 1e-3


def test_correlated_normals_that_are_not_clipped_have_closed_forms() -> None:
    world = synthetic.ActivationGenerator(
        3, 0.5, 0.1, 5.0, synthetic.hierarchy_modifier(Node(0, [Node(1)])),
        magnitude_distribution={"name": "normal", "correlation": 0.5},
    )  # fmt: skip
    rates = synthetic.effective_firing_probabilities(world)
    assert rates.method == "closed form"
    assert rates.probabilities.tolist() == [0.5, 0.25, 0.5]


@pytest.mark.parametrize("strength", [0.0, 0.6])
@pytest.mark.parametrize("name", ["normal", "exponential"])
def test_calibrated_rates_are_reached(name: str, strength: float) -> None:
    trees = synthetic.Hierarchy([Node(0, [Node(1), Node(2)], mutually_exclusive_children=True)])
    distribution = {"name": name, "correlation": strength}
    requested = torch.tensor([0.3, 0.1, 0.05])
    result = synthetic.calibrate_firing_probabilities(
        requested, trees, 3, 0.8, 1.0, magnitude_distribution=distribution
    )
    assert not result.missed.any()
    world = synthetic.ActivationGenerator(
        3,
        result.base_firing_probabilities,
        0.8,
        1.0,
        trees.modifier,
        magnitude_distribution=distribution,
    )
    found = counted(world)
    error = (requested * (1 - requested) / 200_000).sqrt()
    assert bool(((found - requested).abs() < 5 * error + 0.003 * requested).all()), found


def test_exact_compensation_of_a_config_knows_the_distribution() -> None:
    trees = synthetic.HierarchyConfig(2, 2, 1, compensate_probabilities="exact")
    common = {
        "hierarchy": trees,
        "correlation": None,
        "std_firing_magnitudes": 0.9,
        "firing_probability": synthetic.ZipfianFiringProbabilityConfig(1.0, 0.5, 0.01),
    }
    base = [
        synthetic.SyntheticModel(config(name, **common)).activation_generator.firing_probabilities
        for name in ("normal", "exponential")
    ]
    # Of normals of this mean and deviation 13% are clipped, which their probabilities make up for.
    assert float(base[0][0] / base[1][0]) == pytest.approx(1 / 0.8667, rel=1e-3)
