"""Worlds with features that are circles: configs, placement, dictionaries, modifiers, files."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node, ManifoldConfig


def config(**fields: Any) -> synthetic.SyntheticModelConfig:
    trees = synthetic.HierarchyConfig(
        total_root_nodes=2, branching_factor=2, max_depth=1, scale_children_by_parent=True
    )
    known: dict[str, Any] = {"hierarchy": trees, "std_firing_magnitudes": 0.3, "seed": 4}
    return synthetic.SyntheticModelConfig(20, 12, **{**known, **fields})


def model(**fields: Any) -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel(config(**fields))


def leaders(world: synthetic.SyntheticModel) -> list[int]:
    manifolds = world.activation_generator.plan.manifolds
    assert manifolds is not None
    found: list[int] = manifolds.leader.tolist()
    return found


# ---- configs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "one of count and leaders"),
        ({"count": 1, "leaders": [0]}, "one of count and leaders"),
        ({"count": 0}, "count"),
        ({"count": 1.5}, "count"),
        ({"leaders": []}, "leaders"),
        ({"leaders": 3}, "leaders"),
        ({"leaders": [-1]}, "leaders"),
        ({"leaders": ["a"]}, "leaders"),
        ({"count": 1, "dimension": 0}, "dimension"),
        ({"count": 1, "concentration": -0.1}, "concentration"),
        ({"count": 1, "concentration": 1.0}, "concentration"),
        ({"count": 1, "concentration": math.nan}, "concentration"),
    ],
)
def test_refused_configs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ManifoldConfig(**fields)


def test_leaders_of_any_kind_are_plain_numbers() -> None:
    for value in ([5, 1], (5, 1), np.array([5, 1]), torch.tensor([5, 1])):
        circles = ManifoldConfig(leaders=value)  # type: ignore[arg-type]
        assert circles.leaders == [1, 5]
        assert ManifoldConfig.from_dict(circles.to_dict()) == circles


def test_a_config_that_has_none_says_nothing_of_them() -> None:
    assert "manifolds" not in config().to_dict()
    recipe = config(manifolds=ManifoldConfig(count=2))
    assert recipe.to_dict()["manifolds"]["count"] == 2
    assert synthetic.SyntheticModelConfig.from_dict(recipe.to_dict()) == recipe


# ---- placement ----------------------------------------------------------------------------------


def test_a_count_is_spread_over_the_features_outside_of_trees() -> None:
    """Trees have 0 ... 5; the 7 pairs that fit behind begin at 6, 8, ... 18."""
    assert leaders(model(manifolds=ManifoldConfig(count=1))) == [12]
    assert leaders(model(manifolds=ManifoldConfig(count=2))) == [8, 16]  # pairs 1 and 5 of 7
    assert leaders(model(manifolds=ManifoldConfig(count=7))) == list(range(6, 20, 2))
    with pytest.raises(ValueError, match=r"count must be at most 7.*got 8"):
        model(manifolds=ManifoldConfig(count=8))
    assert leaders(model(manifolds=ManifoldConfig(count=2, dimension=3))) == [6, 12]


def test_trees_at_the_end_or_in_the_middle() -> None:
    def placed(tree: Node, count: int) -> list[int]:
        world = synthetic.ActivationGenerator(
            10,
            0.5,
            modify_activations=synthetic.hierarchy_modifier(tree),
            manifolds=ManifoldConfig(count=count),
        )
        manifolds = world.plan.manifolds
        assert manifolds is not None
        found: list[int] = manifolds.leader.tolist()
        return found

    assert placed(Node(8, [Node(9)]), 4) == [0, 2, 4, 6]
    # Of 0 ... 2 and 5 ... 9 one and two pairs.
    assert placed(Node(3, [Node(4)]), 3) == [0, 5, 7]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"leaders": [19]}, r"leaders must be at most num_features - 2 = 18.*got 19"),
        ({"leaders": [8, 9]}, r"2 apart or more.*got 8 and 9"),
        ({"leaders": [8, 8]}, r"2 apart or more"),
        ({"leaders": [8, 11], "dimension": 2}, r"4 apart"),
        ({"leaders": [0]}, r"only their leaders in trees, got feature 1 of the manifold of 0"),
        ({"count": 1, "dimension": 8}, r"count must be at most 0"),
    ],
)
def test_manifolds_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(manifolds=ManifoldConfig(**fields))


def test_the_last_feature_of_a_tree_may_lead() -> None:
    assert leaders(model(manifolds=ManifoldConfig(leaders=[5]))) == [5]


def test_trees_behind_a_callable_of_the_users_count_too() -> None:
    modifiers = [lambda x: x, synthetic.hierarchy_modifier(Node(4, [Node(5)]))]
    world = synthetic.ActivationGenerator(
        6, 0.5, modify_activations=modifiers, manifolds=ManifoldConfig(count=2)
    )
    assert world.plan.manifolds is not None
    assert world.plan.manifolds.leader.tolist() == [0, 2]
    with pytest.raises(ValueError, match="feature 4 of the manifold of 3"):
        synthetic.ActivationGenerator(
            6, 0.5, modify_activations=modifiers, manifolds=ManifoldConfig(leaders=[3])
        )


# ---- dictionaries -------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("apart", [None, synthetic.OrthogonalizationConfig(num_steps=5, lr=0.1)])
def test_the_directions_of_a_manifold_are_orthonormal(dimension: int, apart: Any) -> None:
    circles = ManifoldConfig(count=2, dimension=dimension)
    world = model(manifolds=circles, orthogonalization=apart)
    plain = model(orthogonalization=apart)
    manifolds = world.activation_generator.plan.manifolds
    vectors = world.feature_dict.feature_vectors.detach()
    own = vectors[manifolds.members()].double()
    torch.testing.assert_close(
        own @ own.mT, torch.eye(2 * dimension).double().expand(2, -1, -1), rtol=0, atol=2e-7
    )
    # Nothing but the partners has moved.
    others = torch.ones(20, dtype=torch.bool)
    others[manifolds.partners()] = False
    torch.testing.assert_close(
        vectors[others], plain.feature_dict.feature_vectors[others], rtol=0, atol=2e-7
    )
    free = torch.ones(20, dtype=torch.bool)
    free[manifolds.members().flatten()] = False
    assert torch.equal(vectors[free], plain.feature_dict.feature_vectors[free])


def test_too_few_dimensions_for_a_manifold() -> None:
    recipe = synthetic.SyntheticModelConfig(20, 3, manifolds=ManifoldConfig(count=1, dimension=2))
    with pytest.raises(ValueError, match=r"hidden_dim must be at least 4.*got 3"):
        synthetic.SyntheticModel(recipe)


def test_hidden_activations_lie_on_a_circle() -> None:
    world = model(manifolds=ManifoldConfig(count=1), bias=False, std_firing_magnitudes=0.0)
    hidden, features = world.sample_with_features(4000, seed=1)
    alone = (features != 0).sum(dim=1) == 2
    alone &= features[:, 12] != 0
    assert int(alone.sum()) > 20
    ones = torch.ones(int(alone.sum()))
    torch.testing.assert_close(hidden[alone].norm(dim=1), ones, rtol=1e-6, atol=0)


# ---- what samples go through --------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_users_modifiers_see_magnitudes(sparse: bool, dtype: str) -> None:
    seen: list[torch.Tensor] = []

    def look(activations: torch.Tensor) -> torch.Tensor:
        seen.append(activations.to_dense() if sparse else activations)
        return activations

    arguments: dict[str, Any] = {
        "dtype": dtype,
        "use_sparse_tensors": sparse,
        "manifolds": ManifoldConfig(leaders=[1], dimension=2, concentration=0.2),
    }
    tree = synthetic.hierarchy_modifier(Node(1, [Node(0), Node(6)], True, True))
    fused = synthetic.ActivationGenerator(7, 0.6, 0.3, 1.0, tree, **arguments)
    looked_at = synthetic.ActivationGenerator(7, 0.6, 0.3, 1.0, [tree, look], **arguments)
    whole, got = (g.sample(200, seed=5) for g in (fused, looked_at))
    assert got.layout == whole.layout
    assert got.dtype == whole.dtype
    whole, got = (x.to_dense().double() for x in (whole, got))
    # Rounded twice where samples are half as wide: before the modifier and after.
    tolerance = 2.0**-7 if dtype == "bfloat16" else 0.0
    torch.testing.assert_close(got, whole, rtol=tolerance, atol=0.0)
    (acts,) = seen
    assert not acts[:, 2:5].any()
    assert bool((acts >= 0).all())
    assert bool((got[:, 1:5] < 0).any())


def test_probabilities_of_partners_stay_zero() -> None:
    world = synthetic.ActivationGenerator(4, 0.5, manifolds=ManifoldConfig(leaders=[1]))
    assert world.firing_probabilities.tolist() == [0.5, 0.5, 0.0, 0.5]
    world.firing_probabilities = torch.full((4,), 0.25)
    assert world.plan.probability.tolist() == [0.25, 0.25, 0.0, 0.25]
    assert bool((world.sample(500, seed=0)[:, 2] != 0).any())


def test_copies_and_pickles_sample_the_same() -> None:
    world = model(manifolds=ManifoldConfig(count=2, concentration=0.5)).activation_generator
    wanted = world.sample(50, seed=2)
    for twin in (copy.deepcopy(world), pickle.loads(pickle.dumps(world))):
        assert torch.equal(twin.sample(50, seed=2), wanted)


# ---- rates and descriptions ---------------------------------------------------------------------


def test_all_features_of_a_manifold_have_its_leaders_rate() -> None:
    tree = Node(0, [Node(2), Node(3)], True)
    world = synthetic.ActivationGenerator(
        6,
        torch.tensor([0.4, 0.9, 0.5, 0.5, 0.2, 0.2]),
        modify_activations=synthetic.hierarchy_modifier(tree),
        manifolds=ManifoldConfig(leaders=[0, 3]),
    )
    rates = synthetic.effective_firing_probabilities(world)
    # A child of two that exclude each other: 0.4 (0.25 + 0.25 / 2).
    assert rates.probabilities.tolist() == pytest.approx([0.4, 0.4, 0.15, 0.15, 0.15, 0.2])
    count = 10**5
    drawn = world.sample_sparse(count, seed=0)
    found = torch.bincount(drawn.indices, minlength=6) / count
    sigma = (rates.probabilities * (1 - rates.probabilities) / count).sqrt()
    assert bool(((found - rates.probabilities).abs() < 5 * sigma).all())
    # The uniform phase's entries have mean 0 and variance m**2 / 2 each.
    entries = world.sample(count, seed=0)[:, [0, 1]].double()
    assert float(entries.mean(dim=0).abs().max()) < 5 * math.sqrt(0.2 / count)


def test_counted_rates_of_a_manifold() -> None:
    """A full correlation has no closed form: entries that are not zero are counted."""
    matrix = torch.eye(4)
    world = synthetic.ActivationGenerator(
        4, 0.5, correlation_matrix=matrix, manifolds=ManifoldConfig(leaders=[2])
    )
    rates = synthetic.effective_firing_probabilities(world, num_samples=20_000)
    assert rates.method == "Monte Carlo over samples"
    assert bool(((rates.probabilities - 0.5).abs() < 5 * 0.5 / math.sqrt(20_000)).all())


def test_a_description_asks_of_a_manifold_what_is_asked_of_its_leader() -> None:
    description = model(manifolds=ManifoldConfig(count=1)).describe()
    assert float(description.requested[13]) == float(description.requested[12])
    assert description.levels[-1].l0 == pytest.approx(float(description.rates.probabilities.sum()))


# ---- files --------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path: Path) -> None:
    world = model(manifolds=ManifoldConfig(count=2, dimension=2, concentration=0.4))
    world.save(tmp_path)
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert loaded.fingerprint == world.fingerprint
    assert loaded.cfg.manifolds == world.cfg.manifolds
    assert torch.equal(loaded.sample(40, seed=3), world.sample(40, seed=3))


def test_a_generators_own_manifolds_are_saved(tmp_path: Path) -> None:
    """Which the config did not ask for."""
    recipe = synthetic.SyntheticModelConfig(6, 8, seed=0)
    world = synthetic.SyntheticModel(
        recipe,
        activation_generator=synthetic.ActivationGenerator(
            6, 0.5, manifolds=ManifoldConfig(leaders=[2])
        ),
    )
    world.save(tmp_path)
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert loaded.cfg.manifolds == ManifoldConfig(leaders=[2])
    assert torch.equal(loaded.sample(40, seed=3), world.sample(40, seed=3))


def test_fingerprints_tell_manifolds_apart() -> None:
    prints = {
        model(manifolds=circles).fingerprint
        for circles in (
            None,
            ManifoldConfig(count=1),
            ManifoldConfig(count=2),
            ManifoldConfig(count=1, concentration=0.5),
        )
    }
    assert len(prints) == 4
