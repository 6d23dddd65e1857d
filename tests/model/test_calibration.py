"""Base probabilities that give requested rates, and the nearest where that cannot be."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node

LOW_RANK = synthetic.generate_random_low_rank_correlation_matrix(120, 6, 0.2, seed=4)


def group(parent: int, *children: int) -> Node:
    return Node(parent, [Node(j) for j in children], mutually_exclusive_children=True)


@pytest.mark.parametrize("correlation", [None, LOW_RANK], ids=["independent", "copula"])
@pytest.mark.parametrize("exclusive", [0.0, 1.0])
def test_feasible_rates_are_reached_within_a_percent(correlation: Any, exclusive: float) -> None:
    recipe = synthetic.HierarchyConfig(
        6, 3, 3, mutually_exclusive_portion=exclusive, scale_children_by_parent=True
    )
    trees = synthetic.generate_hierarchy(120, recipe, 1)
    # A third of the parent's rate, less a little, for each of three.
    requested = torch.full((120,), 0.2)
    for root in trees.roots:
        waiting = [(root, 0.8)]
        while waiting:
            node, rate = waiting.pop()
            assert node.feature_index is not None
            requested[node.feature_index] = rate
            waiting.extend((child, 0.3 * rate) for child in node.children)
    std = torch.linspace(0, 1, 120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = synthetic.calibrate_firing_probabilities(
            requested, trees, 120, std, 2.0, correlation
        )
    assert not result.missed.any()
    torch.testing.assert_close(result.target, requested.double())
    generator = synthetic.ActivationGenerator(
        120, result.base_firing_probabilities, std, 2.0, trees.modifier, correlation
    )
    rates = synthetic.effective_firing_probabilities(generator, num_samples=65536, seed=99)
    off = (rates.probabilities / requested - 1).abs()
    errors = 4 * rates.standard_errors / requested
    assert bool((off < 0.01 + errors).all()), float(off.max())
    if correlation is None:
        assert float(off.max()) < 0.0021


def test_a_child_is_at_most_as_frequent_as_its_parent() -> None:
    trees = synthetic.Hierarchy([Node(0, [Node(1, [Node(2)])]), Node(3, [Node(4)])])
    requested = torch.tensor([0.4, 0.2, 0.3, 0.5, 0.5, 0.1])
    with pytest.warns(UserWarning, match=r"cannot give 1 of 6 features .* 2: requested 0.3, reac"):
        result = synthetic.calibrate_firing_probabilities(requested, trees, 6)
    expected = [0.4, 0.2, 0.2, 0.5, 0.5, 0.1]
    assert result.target.tolist() == pytest.approx(expected)
    assert result.reached.probabilities.tolist() == pytest.approx(expected, rel=2.1e-3)
    assert result.missed.tolist() == [False, False, True, False, False, False]


def test_exclusive_siblings_share_their_parent_in_proportion() -> None:
    trees = synthetic.Hierarchy([group(0, 1, 2, 3)])
    requested = torch.tensor([0.3, 0.3, 0.2, 0.1])
    with pytest.warns(UserWarning, match="cannot give 3 of 4") as caught:
        result = synthetic.calibrate_firing_probabilities(requested, trees, 4)
    half = 0.999 / 2
    assert result.target.tolist() == pytest.approx([0.3, 0.3 * half, 0.2 * half, 0.1 * half])
    assert result.reached.probabilities.tolist() == pytest.approx(
        result.target.tolist(), rel=2.1e-3
    )
    text = str(caught[0].message)
    found = re.search(r"The worst is feature (\d): requested ([\d.]+), reached ([\d.]+)$", text)
    assert found is not None
    worst = int(found[1])
    assert float(found[2]) == pytest.approx(float(requested[worst]))
    assert float(found[3]) == pytest.approx(float(result.reached.probabilities[worst]), rel=1e-3)


def test_siblings_that_need_all_of_their_parent_are_within_a_percent() -> None:
    trees = synthetic.Hierarchy([group(0, 1, 2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = synthetic.calibrate_firing_probabilities(
            torch.tensor([0.5, 0.375, 0.125]), trees, 3
        )
    assert result.reached.probabilities.tolist() == pytest.approx([0.5, 0.375, 0.125], rel=0.005)


def test_a_clipped_magnitude_bounds_a_rate() -> None:
    """Half of a normal around zero is above it."""
    with pytest.warns(UserWarning, match="requested 0.7, reached 0.5$"):
        result = synthetic.calibrate_firing_probabilities(
            torch.tensor([0.7, 0.25]), synthetic.Hierarchy([]), 2, 1.0, 0.0
        )
    assert result.base_firing_probabilities.tolist() == [1.0, 0.5]


def test_nothing_requested_is_nothing_reached() -> None:
    trees = synthetic.Hierarchy([group(0, 1, 2), group(3, 4, 5)])
    requested = torch.tensor([0.5, 0.0, 0.25, 0.0, 0.0, 0.0])
    result = synthetic.calibrate_firing_probabilities(requested, trees, 6)
    assert result.reached.probabilities.tolist() == pytest.approx(requested.tolist(), rel=2.1e-3)


def test_exact_in_a_config_is_what_the_model_fires() -> None:
    data = synthetic.SyntheticModelConfig.preset("synth-sae-bench-1k").to_dict()
    data["hierarchy"]["compensate_probabilities"] = "exact"
    data["orthogonalization"] = None
    cfg = synthetic.SyntheticModelConfig.from_dict(data)
    assert cfg.to_dict() == data
    with pytest.warns(UserWarning, match="cannot give"):
        model = synthetic.SyntheticModel(cfg)
    table = model.describe()
    assert model.hierarchy is not None
    with pytest.warns(UserWarning, match="cannot give"):
        wanted = synthetic.calibrate_firing_probabilities(
            table.requested,
            model.hierarchy,
            1024,
            model.activation_generator.std_firing_magnitudes,
            model.activation_generator.mean_firing_magnitudes,
            model.correlation_matrix,
        )
    off = (table.rates.probabilities / wanted.target - 1).abs()
    errors = 4 * table.rates.standard_errors / wanted.target
    assert bool((off < 0.01 + errors).all()), float(off.max())
    # The customary rule is what it always was.
    customary = dataclasses.replace(cfg.hierarchy, compensate_probabilities=True)
    plain = synthetic.SyntheticModel(dataclasses.replace(cfg, hierarchy=customary))
    factors = model.hierarchy.compute_probability_correction_factors(table.requested.float())
    assert torch.equal(
        plain.activation_generator.firing_probabilities,
        (table.requested.float() * factors).clamp(max=1),
    )


@pytest.mark.parametrize(
    ("value", "error"), [("approximate", ValueError), (1, TypeError), (None, TypeError)]
)
def test_other_compensations_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf'must be True, False or "exact", got {value!r}$'):
        synthetic.HierarchyConfig(compensate_probabilities=value)


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (1.2, r"requested must be a finite number >= 0 and <= 1, got 1.2"),
        (torch.tensor([0.1, float("nan")]), r"requested must hold finite numbers .*, got nan at"),
        (torch.zeros(3), r"requested must have shape \[2\], got \[3\]"),
    ],
)
def test_bad_requests(requested: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        synthetic.calibrate_firing_probabilities(requested, synthetic.Hierarchy([Node(1)]), 2)
    with pytest.raises(ValueError, match="below num_features = 2, got feature 5"):
        synthetic.calibrate_firing_probabilities(0.5, synthetic.Hierarchy([Node(5)]), 2)
