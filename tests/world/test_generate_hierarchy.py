"""Random hierarchies and their recipe."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import synthkern as synthetic

Config = synthetic.HierarchyConfig
generate = synthetic.generate_hierarchy

NAN, INF = float("nan"), float("inf")


def nodes(hierarchy: synthetic.Hierarchy) -> Iterator[synthetic.HierarchyNode]:
    waiting = list(hierarchy.roots)
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children)
        yield node


def children(hierarchy: synthetic.Hierarchy) -> dict[int | None, list[int | None]]:
    """The features below each feature that has any."""
    return {
        node.feature_index: [child.feature_index for child in node.children]
        for node in nodes(hierarchy)
        if node.children
    }


def exclusive(hierarchy: synthetic.Hierarchy) -> set[int | None]:
    """The features whose children are mutually exclusive."""
    return {node.feature_index for node in nodes(hierarchy) if node.mutually_exclusive_children}


@pytest.mark.parametrize(
    ("num_features", "expected"),
    [
        # Roots 0 and 1, then their children, then the children of 2, 3, 4 and 5.
        (14, {0: [2, 3], 1: [4, 5], 2: [6, 7], 3: [8, 9], 4: [10, 11], 5: [12, 13]}),
        (99, {0: [2, 3], 1: [4, 5], 2: [6, 7], 3: [8, 9], 4: [10, 11], 5: [12, 13]}),
        # Features run out in the middle of a level, and in the middle of a family.
        (10, {0: [2, 3], 1: [4, 5], 2: [6, 7], 3: [8, 9]}),
        (9, {0: [2, 3], 1: [4, 5], 2: [6, 7], 3: [8]}),
        (6, {0: [2, 3], 1: [4, 5]}),
        (3, {0: [2]}),
        (2, {}),
        (1, {}),
    ],
)
def test_features_are_dealt_breadth_first(
    num_features: int, expected: dict[int, list[int]]
) -> None:
    config = Config(total_root_nodes=2, branching_factor=2, max_depth=2)
    hierarchy = generate(num_features, config, seed=0)
    assert [root.feature_index for root in hierarchy.roots] == list(range(min(2, num_features)))
    assert children(hierarchy) == expected
    assert hierarchy.feature_indices_used == set(range(min(14, num_features)))
    assert hierarchy.modifier is not None


def test_depth_bounds_the_levels() -> None:
    config = Config(total_root_nodes=1, branching_factor=2, max_depth=1)
    assert children(generate(100, config, seed=0)) == {0: [1, 2]}
    config = Config(total_root_nodes=1, branching_factor=2, max_depth=30)
    assert generate(100, config, seed=0).feature_indices_used == set(range(100))


def test_a_range_of_branching_factors_is_used_whole() -> None:
    config = Config(total_root_nodes=600, branching_factor=(2, 4), max_depth=1)
    below = children(generate(10_000, config, seed=1))
    counts = Counter(len(group) for group in below.values())
    assert set(counts) == {2, 3, 4}
    # Each with probability 1/3; 5 sigma of a binomial count.
    for count in counts.values():
        assert abs(count - 200) < 5 * math.sqrt(600 * 2 / 9)
    dealt = [feature for parent in range(600) for feature in below[parent]]
    assert dealt == list(range(600, 600 + len(dealt)))


@pytest.mark.parametrize("scale", [True, False])
def test_scaling_marks_parents_only(scale: bool) -> None:
    config = Config(2, 2, 1, scale_children_by_parent=scale)
    hierarchy = generate(6, config, seed=0)
    assert [root.scale_children_by_parent for root in hierarchy.roots] == [scale, scale]
    assert not any(c.scale_children_by_parent for root in hierarchy.roots for c in root.children)
    assert not exclusive(hierarchy)


@pytest.mark.parametrize(
    ("least", "most", "eligible"),
    [
        # Roots 0 ... 3, level 1 is 4 ... 15, level 2 is 16 ... 51; 52 ... 159 have no children.
        (0, None, range(52)),
        (0, 0, range(4)),
        (1, 1, range(4, 16)),
        (1, None, range(4, 52)),
        (2, 7, range(16, 52)),
        (3, None, range(0)),
    ],
)
@pytest.mark.parametrize("portion", [0.0, 0.25, 0.5, 1.0])
def test_an_exact_portion_of_the_eligible_parents_is_exclusive(
    least: int, most: int | None, eligible: range, portion: float
) -> None:
    config = Config(
        4,
        3,
        3,
        mutually_exclusive_portion=portion,
        mutually_exclusive_min_depth=least,
        mutually_exclusive_max_depth=most,
    )
    found = exclusive(generate(160, config, seed=5))
    assert len(found) == portion * len(eligible)
    assert found <= set(eligible)


def test_a_portion_is_rounded_down_as_saelens_rounds_it() -> None:
    config = Config(100, 2, 1, mutually_exclusive_portion=0.29)
    # In floating point the product of 0.29 and 100 is a little below 29.
    assert len(exclusive(generate(300, config, seed=0))) == 28


def test_no_features_give_no_trees() -> None:
    empty = generate(0, Config())
    assert (empty.roots, empty.modifier) == ([], None)


def test_a_depth_that_features_do_not_reach_costs_nothing() -> None:
    for depth in (10**9, 2**63):
        config = Config(1, 2, depth, mutually_exclusive_portion=0.5)
        assert generate(7, config, seed=0).feature_indices_used == set(range(7))


def test_what_is_exclusive_follows_draws_for_parents_without_features() -> None:
    # Every parent draws its number of children, also the 17 that get none; the groups come after.
    config = Config(20, (2, 3), 1, mutually_exclusive_portion=0.5)
    chance = random.Random(8)
    wanted = [chance.randint(2, 3) for _ in range(20)]
    eligible = [root for root in range(20) if sum(wanted[: root + 1]) <= 8]
    drawn = chance.sample(range(len(eligible)), len(eligible) // 2)
    assert len(eligible) > 1
    found = exclusive(generate(28, config, seed=8))
    assert found == {eligible[place] for place in drawn}


def test_a_parent_of_one_child_is_not_eligible() -> None:
    config = Config(2, 2, 1, mutually_exclusive_portion=1.0)
    assert exclusive(generate(5, config, seed=0)) == {0}


def test_every_eligible_parent_is_as_likely() -> None:
    config = Config(4, 2, 1, mutually_exclusive_portion=0.25)
    counts: Counter[int | None] = Counter()
    for seed in range(400):
        counts.update(exclusive(generate(12, config, seed=seed)))
    assert counts.total() == 400
    # 5 sigma of a binomial count with probability 1/4.
    for root in range(4):
        assert abs(counts[root] - 100) < 5 * math.sqrt(400 * 3 / 16)


def test_seeds_and_the_global_generators() -> None:
    config = Config(20, (2, 5), 2, mutually_exclusive_portion=0.5)
    state, plain = torch.get_rng_state(), random.getstate()
    first = generate(300, config, seed=2**64 - 1)
    assert generate(300, config, seed=2**64 - 1) == first
    assert generate(300, config, seed=0) != first
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == plain
    unseeded = generate(300, config)
    assert generate(300, config) != unseeded
    torch.set_rng_state(state)
    assert generate(300, config) == unseeded
    assert random.getstate() == plain


def test_hierarchies_round_trip_through_json() -> None:
    config = Config(3, 2, 2, 0.5, scale_children_by_parent=True)
    hierarchy = generate(20, config, seed=0)
    data = hierarchy.to_dict()
    assert list(data) == ["roots"]
    again = synthetic.Hierarchy.from_dict(json.loads(json.dumps(data)))
    assert again == hierarchy
    assert again.modifier is not None
    assert again != generate(19, config, seed=0)
    assert again != data
    empty = synthetic.Hierarchy.from_dict({"roots": []})
    assert empty == synthetic.Hierarchy([])
    assert empty.modifier is None
    assert empty.feature_indices_used == set()


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "^hierarchy must have the key 'roots', got none"),
        ({"roots": [], "trees": []}, ValueError, r"^hierarchy has unknown keys \['trees'\]"),
        ([], TypeError, r"^hierarchy must be a mapping, got \[\]"),
        ({"roots": [3]}, TypeError, "^hierarchy node must be a mapping, got 3"),
    ],
)
def test_bad_dictionaries_are_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        synthetic.Hierarchy.from_dict(data)


BAD_CONFIGS: list[tuple[str, list[Any], type[Exception]]] = [
    ("total_root_nodes", [0], ValueError),
    ("total_root_nodes", [1.0], TypeError),
    ("branching_factor", [1, (2, 3, 4)], ValueError),
    ("branching_factor", [2.5], TypeError),
    ("max_depth", [0], ValueError),
    ("max_depth", ["2"], TypeError),
    ("mutually_exclusive_portion", [-0.1, 1.1, NAN, INF], ValueError),
    ("mutually_exclusive_portion", [True], TypeError),
    ("mutually_exclusive_min_depth", [-1], ValueError),
    ("mutually_exclusive_max_depth", [-1], ValueError),
    ("mutually_exclusive_max_depth", [1.5], TypeError),
    ("compensate_probabilities", [1], TypeError),
    ("scale_children_by_parent", [None], TypeError),
]


@pytest.mark.parametrize(("name", "values", "error"), BAD_CONFIGS)
def test_bad_recipes_are_refused(name: str, values: list[Any], error: type[Exception]) -> None:
    for value in values:
        message = rf"^{name} must .*got {re.escape(repr(value))}$"
        with pytest.raises(error, match=message):
            Config(**{name: value})
        with pytest.raises(error, match=message):
            Config.from_dict({name: value})


@pytest.mark.parametrize(("pair", "place"), [((1, 3), 0), ((3, 2), 1), ([2, 1], 1)])
def test_bad_ranges_are_refused(pair: Any, place: int) -> None:
    with pytest.raises(ValueError, match=rf"^branching_factor\[{place}\] must .*got {pair[place]}"):
        Config(branching_factor=pair)
    with pytest.raises(ValueError, match=r"^mutually_exclusive_max_depth must .*>= 2, got 1"):
        Config(mutually_exclusive_min_depth=2, mutually_exclusive_max_depth=1)


def test_recipes_round_trip_through_json() -> None:
    assert Config() == Config(100, 100, 2, 0.0, 0, None, False, False)
    for config in (Config(), Config(3, (2, 4), 5, 0.5, 1, 2, True, True)):
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match=r"^hierarchy has unknown keys \['depth'\]; known are"):
        Config.from_dict({"depth": 2})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, Config()), ValueError, "num_features must .*got -1"),
        ((2.0, Config()), TypeError, r"num_features must .*got 2\.0"),
        ((5, {"max_depth": 1}), TypeError, r"config must .*got \{'max_depth': 1\}"),
        ((5, Config(), -1), ValueError, "seed must .*got -1"),
        ((5, Config(), 2**64), ValueError, "seed must .*got 18446744073709551616"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        generate(*arguments)
