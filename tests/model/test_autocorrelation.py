"""Effective autocorrelations along sequences: closed forms, and draws beside them."""

from __future__ import annotations

import pytest
import torch

import synthkern as synthetic
from synthkern import ActivationGenerator, HierarchyNode, SequenceConfig, hierarchy_modifier


def _tree(*, exclusive: bool = False) -> HierarchyNode:
    return HierarchyNode(
        0, [HierarchyNode(1), HierarchyNode(2)], mutually_exclusive_children=exclusive
    )


def _world(
    length: int = 12, *, exclusive: bool = False, **arguments: object
) -> ActivationGenerator:
    return ActivationGenerator(
        4,
        torch.tensor([0.5, 0.25, 1.0, 0.1]),
        modify_activations=hierarchy_modifier(_tree(exclusive=exclusive)),
        sequence=SequenceConfig(length, [0.9, 0.5]),
        **arguments,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("lag", [1, 3])
def test_the_closed_form_by_hand(lag: int) -> None:
    found = synthetic.effective_autocorrelations(_world(), lag)
    top, below = 0.9**lag, 0.5**lag
    root = top * 0.5 + (1 - top) * 0.25
    child = root * (below * 0.25 + (1 - below) * 0.0625)
    # Feature 2 always fires with its parent.
    expected = [top, (child - 0.125**2) / (0.125 - 0.125**2), top, top]
    assert found.method == "closed form"
    assert found.autocorrelations.tolist() == pytest.approx(expected, rel=1e-6)
    assert not found.standard_errors.any()


@pytest.mark.parametrize("length", [12, 200])
@pytest.mark.parametrize("lag", [1, 3])
def test_draws_agree_with_the_closed_form_within_their_errors(length: int, lag: int) -> None:
    """A modifier of the user's that changes nothing has samples drawn, of long sequences the first
    positions.
    """
    exact = synthetic.effective_autocorrelations(_world(length), lag)
    world = _world(length)
    world.modify_activations = [*(world.modify_activations or ()), lambda x: x]
    found = synthetic.effective_autocorrelations(world, lag, num_samples=2**17)
    assert found.method == "Monte Carlo over sequences"
    assert 2**16 <= found.num_samples <= 2**17
    assert (found.standard_errors < 0.05).all()
    off = (found.autocorrelations - exact.autocorrelations) / found.standard_errors
    assert (off.abs() < 5).all(), off
    every = torch.ones(4, dtype=torch.bool)
    value, error = found.of_features(every)
    assert abs(value - exact.of_features(every)[0]) < 5 * error


def test_exclusive_children_and_copulas_are_drawn() -> None:
    for world in (
        _world(exclusive=True),
        _world(correlation_matrix=(torch.full((4, 1), 0.5), torch.full((4,), 0.75))),
    ):
        found = synthetic.effective_autocorrelations(world)
        assert found.method == "Monte Carlo over sequences"
        assert 0.3 < found.of_features(torch.ones(4, dtype=torch.bool))[0] < 0.9


def test_features_that_never_fire_have_none() -> None:
    world = ActivationGenerator(2, torch.tensor([0.0, 0.5]), sequence=SequenceConfig(4, 0.5))
    found = synthetic.effective_autocorrelations(world).autocorrelations
    assert found.isnan().tolist() == [True, False]


def test_a_description_has_a_column_of_them() -> None:
    cfg = synthetic.SyntheticModelConfig(16, 4, sequence=SequenceConfig(8, 0.75), seed=0)
    text = str(synthetic.SyntheticModel(cfg).describe())
    assert "autocorrelations: closed form" in text
    assert text.count("0.750") == 2  # free and all
    cfg.sequence = None
    assert "autocorrelation" not in str(synthetic.describe_world(cfg))
    cfg.sequence = SequenceConfig(1, 0.75)
    assert "autocorrelation" not in str(synthetic.describe_world(cfg))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="lag must be"):
        synthetic.effective_autocorrelations(_world(12), 12)
    with pytest.raises(ValueError, match="num_samples must be"):
        synthetic.effective_autocorrelations(_world(12), num_samples=3)
    with pytest.raises(ValueError, match="model must be of a world with a SequenceConfig"):
        synthetic.effective_autocorrelations(ActivationGenerator(3, 0.5))
