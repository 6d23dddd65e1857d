"""Hierarchy nodes: trees as users write them, and what is no tree."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.plan import compile_forest
from synthkern.world.hierarchy import validate_hierarchy

Node = synthetic.HierarchyNode

DEEP = 20_000

TREE = {
    "feature_index": 3,
    "scale_children_by_parent": True,
    "id": "animal",
    "children": [
        {
            "mutually_exclusive_children": True,
            "children": [{"feature_index": 0, "id": "cat"}, {"feature_index": 7}],
        },
        {"feature_index": 1, "children": []},
    ],
}


def tree() -> synthetic.HierarchyNode:
    pets = Node(
        children=[Node(0, feature_id="cat"), Node(feature_index=7)],
        mutually_exclusive_children=True,
    )
    return Node(3, (pets, Node(1)), scale_children_by_parent=True, feature_id="animal")


def chain(length: int = DEEP) -> synthetic.HierarchyNode:
    node = Node(length - 1)
    for feature in reversed(range(length - 1)):
        node = Node(feature, [node])
    return node


def test_defaults() -> None:
    node = Node()
    assert node.feature_index is None
    assert node.children == []
    assert node.mutually_exclusive_children is False
    assert node.scale_children_by_parent is False
    assert node.feature_id is None


def test_a_list_of_children_is_kept_unless_it_is_empty() -> None:
    children, none = [Node(1)], list[Node]()
    node, leaf = Node(0, children), Node(3, none)
    children.append(Node(2))
    none.append(Node(4))
    assert node.children is children
    assert node.get_all_feature_indices() == [0, 1, 2]
    assert leaf.get_all_feature_indices() == [3]
    roots = [node]
    assert synthetic.Hierarchy(roots).roots is roots


def test_a_node_takes_attributes_which_copies_keep() -> None:
    node = tree()
    node.note = "mine"  # type: ignore[attr-defined]
    node.children[1].weight = [1.0]  # type: ignore[attr-defined]
    for copied in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert copied == node
        assert copied.note == "mine"
        assert copied.children[1].weight == [1.0]
        assert copied.children[1].weight is not node.children[1].weight
        assert not vars(copied.children[0])


@pytest.mark.parametrize("count", [0, 1])
def test_exclusion_needs_two_children_when_a_node_is_made(count: int) -> None:
    below = [Node(feature) for feature in range(1, count + 1)]
    message = rf"^mutually_exclusive_children needs two .*got {count} at feature 0$"
    with pytest.raises(ValueError, match=message):
        Node(0, below, mutually_exclusive_children=True)
    with pytest.raises(ValueError, match=message):
        Node.from_dict(
            {
                "feature_index": 0,
                "mutually_exclusive_children": True,
                "children": [node.to_dict() for node in below],
            }
        )


class OtherNode:
    """A node of another package: the attributes are all it shares with ours."""

    def __init__(self, feature_index: int | None, *children: OtherNode) -> None:
        self.feature_index = feature_index
        self.children = children
        self.mutually_exclusive_children = len(children) > 1
        self.scale_children_by_parent = False
        self.feature_id = None


def test_nodes_of_another_package_stand_in_place_of_ours() -> None:
    other: Any = OtherNode(0, OtherNode(None, OtherNode(1), OtherNode(2)))
    ours = Node(0, [Node(None, [Node(1), Node(2)], True)])
    assert ours == other
    assert ours == Node(0, other.children)
    assert ours == pickle.loads(pickle.dumps(ours))
    hierarchy = synthetic.Hierarchy([other])
    assert hierarchy == synthetic.Hierarchy([ours])
    assert hierarchy.to_dict() == {"roots": [ours.to_dict()]}
    assert hierarchy.feature_indices_used == {0, 1, 2}
    activations = torch.ones(4, 3)
    expected = synthetic.hierarchy_modifier(ours)(activations, seed=1)
    assert torch.equal(synthetic.hierarchy_modifier(other)(activations, seed=1), expected)
    # A modifier of another package too: the trees themselves say what is to be corrected.
    foreign = synthetic.Hierarchy([other], modifier=lambda activations: activations)
    base = torch.tensor([0.5, 0.25, 0.125])
    assert torch.equal(
        foreign.compute_probability_correction_factors(base),
        hierarchy.compute_probability_correction_factors(base),
    )
    with pytest.raises(TypeError, match=r"^modifier must be callable or None, got 3$"):
        synthetic.Hierarchy([ours], modifier=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["id", "feature_id"])
def test_from_dict(key: str) -> None:
    data = json.loads(json.dumps(TREE).replace('"id"', f'"{key}"'))
    assert Node.from_dict(data) == tree()


def test_from_dict_without_keys_is_an_organisational_node() -> None:
    assert Node.from_dict({}) == Node()
    assert Node.from_dict({"children": None, "feature_index": None}) == Node()


def test_to_dict_writes_every_key_and_round_trips_through_json() -> None:
    data = tree().to_dict()
    assert data["children"][1] == {
        "feature_index": 1,
        "mutually_exclusive_children": False,
        "scale_children_by_parent": False,
        "feature_id": None,
        "children": [],
    }
    assert Node.from_dict(json.loads(json.dumps(data))) == tree()


def test_feature_indices_come_in_order_of_the_tree() -> None:
    assert tree().get_all_feature_indices() == [3, 0, 7, 1]
    assert Node().get_all_feature_indices() == []


def test_repr_is_a_tree() -> None:
    assert repr(tree()) == (
        "feature 3 (animal) [scales children]\n"
        "  organisational node [mutually exclusive children]\n"
        "    feature 0 (cat)\n"
        "    feature 7\n"
        "  feature 1"
    )
    both = Node(None, [Node(0), Node(1)], True, True)
    first = "organisational node [mutually exclusive children, scales children]"
    assert repr(both).splitlines()[0] == first


def test_equality_looks_at_everything() -> None:
    assert tree() == tree()
    others = [tree() for _ in range(7)]
    others[0].feature_index = 4
    others[1].feature_id = None
    others[2].scale_children_by_parent = False
    others[3].children[0].mutually_exclusive_children = False
    others[4].children[0].children[1].feature_index = 8
    others[5].children.reverse()
    others[6].children.pop()
    for other in others:
        assert other != tree()
    assert tree() != tree().to_dict()
    with pytest.raises(TypeError, match="unhashable"):
        hash(tree())


def test_a_chain_has_no_recursion_limit() -> None:
    deep, same = chain(), chain()
    deep.validate()
    # Not bare comparisons: what pytest would print of a failure is long.
    assert bool(deep == same)
    assert deep.get_all_feature_indices() == list(range(DEEP))
    assert bool(Node.from_dict(deep.to_dict()) == deep)
    lowest = same
    while lowest.children:
        lowest = lowest.children[0]
    lowest.feature_id = "other"
    assert not bool(deep == same)
    lowest.children.append(same)
    with pytest.raises(ValueError, match=r"^hierarchy must not loop, got feature 0 below itself$"):
        same.validate()
    lowest.children.clear()


def test_repr_of_a_chain_grows_with_its_length_only() -> None:
    text = repr(chain())
    # Indented all the way down it would take 400 MB.
    assert len(text) < 200 * DEEP
    lines = text.splitlines()
    assert len(lines) == DEEP
    assert lines[:2] == ["feature 0", "  feature 1"]
    assert lines[50] == "  " * 50 + "feature 50"
    assert lines[51] == "  " * 50 + "(level 51) feature 51"
    assert lines[-1] == "  " * 50 + "(level 19999) feature 19999"


def loop() -> synthetic.HierarchyNode:
    root = Node(2, [Node(5, feature_id="middle")])
    root.children[0].children.append(root)
    return root


def loop_of_one() -> synthetic.HierarchyNode:
    root = Node(feature_id="self")
    root.children.append(root)
    return root


def two_parents() -> synthetic.HierarchyNode:
    shared = Node(4, feature_id="shared")
    return Node(0, [Node(1, [shared]), Node(2, [shared])])


def changed(attribute: str, value: Any) -> synthetic.HierarchyNode:
    root = tree()
    setattr(root.children[1], attribute, value)
    return root


BAD_TREES: list[tuple[Callable[[], synthetic.HierarchyNode], str]] = [
    (loop, "hierarchy must not loop, got feature 2 below itself"),
    (loop_of_one, "hierarchy must not loop, got organisational node (self) below itself"),
    (
        two_parents,
        "hierarchy node must have one parent, got feature 4 (shared) in two places",
    ),
    (
        lambda: Node(0, [Node(1), Node(2, [Node(1, feature_id="again")])]),
        "hierarchy must hold a feature once, got feature 1 (again) twice in one tree",
    ),
    (
        lambda: Node(0, [Node(0)]),
        "hierarchy must hold a feature once, got feature 0 twice in one tree",
    ),
    (
        lambda: changed("feature_index", -2),
        "feature_index of feature -2 must be an integer >= 0 and <= 2147483647, got -2",
    ),
    (
        lambda: changed("mutually_exclusive_children", True),
        "mutually_exclusive_children needs two children or more, got 0 at feature 1",
    ),
]


@pytest.mark.parametrize(("build", "message"), BAD_TREES)
def test_what_is_no_tree_is_refused_with_the_node_named(
    build: Callable[[], synthetic.HierarchyNode], message: str
) -> None:
    pattern = f"^{re.escape(message)}$"
    with pytest.raises(ValueError, match=pattern):
        build().validate()
    with pytest.raises(ValueError, match=pattern):
        synthetic.hierarchy_modifier(build())
    with pytest.raises(ValueError, match=pattern):
        synthetic.Hierarchy([Node(99), build()])


def test_a_feature_in_two_trees_is_refused() -> None:
    roots = [Node(0, [Node(1)]), Node(2, [Node(1, feature_id="other")])]
    for root in roots:
        root.validate()
    message = r"^hierarchy must hold a feature once, got feature 1 \(other\) in two trees$"
    with pytest.raises(ValueError, match=message):
        synthetic.hierarchy_modifier(roots)
    with pytest.raises(ValueError, match=r"^hierarchy node must have one parent, got feature 0 "):
        synthetic.hierarchy_modifier([roots[0], roots[0]])


def test_a_feature_outside_the_activations_is_refused() -> None:
    modifier = synthetic.hierarchy_modifier(tree())
    message = "must have features below num_features = 7, got feature 7"
    with pytest.raises(ValueError, match=message):
        modifier(torch.ones(2, 7))
    with pytest.raises(ValueError, match=message):
        synthetic.ActivationGenerator(7, 0.5, modify_activations=modifier)
    with pytest.raises(ValueError, match=r"^feature_index must be below .* = 7, got feature 7$"):
        validate_hierarchy([tree()], num_features=7)
    validate_hierarchy([tree()], num_features=8)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"feature_index": -1}, ValueError, "feature_index must .*got -1"),
        ({"feature_index": 1.0}, TypeError, "feature_index must .*got 1.0"),
        ({"feature_index": True}, TypeError, "feature_index must .*got True"),
        ({"children": [3]}, TypeError, "children must hold HierarchyNodes, got 3"),
        ({"mutually_exclusive_children": 1}, TypeError, "mutually_exclusive_children must .*got 1"),
        ({"scale_children_by_parent": "no"}, TypeError, "scale_children_by_parent must .*got 'no'"),
        (
            {"feature_id": 5.5},
            TypeError,
            "feature_id must be a string, an integer or None, got 5.5",
        ),
    ],
)
def test_bad_arguments_are_refused(
    kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        Node(**kwargs)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"children": [4]}, TypeError, "hierarchy node must be a mapping, got 4"),
        ([], TypeError, r"hierarchy node must be a mapping, got \[\]"),
        ({"feature_index": -4}, ValueError, "feature_index must .*got -4"),
        ({"scale_children_by_parent": 0}, TypeError, "scale_children_by_parent must .*got 0"),
    ],
)
def test_bad_dictionaries_are_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Node.from_dict(data)


def test_a_forest_is_copied_to_a_device_once() -> None:
    forest = compile_forest([synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])])
    assert forest.to("cpu") is forest
    copy = forest.to("meta")
    assert copy.parent.device.type == "meta"
    assert forest.to(torch.device("meta")) is copy
