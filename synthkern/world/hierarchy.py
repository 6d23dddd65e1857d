"""Hierarchies of features: the trees as users write them, and the recipe for random ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from synthkern._checks import as_bool, as_float, as_int, plain_fields, plain_number
from synthkern._warnings import warn
from synthkern.world.registry import PlainConfig

_KEYS = {
    "feature_index",
    "children",
    "mutually_exclusive_children",
    "scale_children_by_parent",
    "id",
    "feature_id",
}

_LARGEST_INDEX = 2**31 - 1

#: Levels below this are numbered by ``repr``, and not indented further.
_DEEPEST_INDENT = 50


#: What a node has, ours or another package's.
_ATTRIBUTES = (
    "feature_index",
    "children",
    "mutually_exclusive_children",
    "scale_children_by_parent",
    "feature_id",
)


class HierarchyNode:
    """A node of a hierarchy: a feature that can fire only where its parent fires.

    Two trees are equal where their nodes are. Nothing here recurses, so trees may be as deep as
    they like. Any object with the same five attributes, as SAELens' nodes have, can stand in place
    of a node. Attributes of the user's own may be set.

    Args:
        feature_index: the node's feature, at least 0; None for an organisational node, which is
            active where its parent is, and always at the root.
        children: nodes that can be active only where this one is. A list is kept, not copied:
            what is appended to it later counts, except to one that was empty, as in SAELens.
        mutually_exclusive_children: whether at most one of the children that carry a feature
            stays active; needs two children or more.
        scale_children_by_parent: whether a child's value is multiplied by its parent's value
            over the parent's mean magnitude (the nearest ancestor with a feature counts).
        feature_id: a label, a string or an integer, shown by ``repr`` and in errors.

    Raises:
        ValueError: for an index out of range, or mutual exclusion with fewer than two children.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> pets = [
        ...     synthetic.HierarchyNode(1, feature_id="dog"),
        ...     synthetic.HierarchyNode(2, feature_id="cat"),
        ... ]
        >>> synthetic.HierarchyNode(0, pets, mutually_exclusive_children=True, feature_id="pet")
        feature 0 (pet) [mutually exclusive children]
          feature 1 (dog)
          feature 2 (cat)
    """

    # Half the memory of a dictionary each, for a million nodes; users' attributes go into one.
    __slots__ = ("__dict__", "__weakref__", *_ATTRIBUTES)

    feature_index: int | None
    children: list[HierarchyNode]
    mutually_exclusive_children: bool
    scale_children_by_parent: bool
    feature_id: str | int | None

    def __init__(
        self,
        feature_index: int | None = None,
        children: Sequence[HierarchyNode] | None = None,
        mutually_exclusive_children: bool = False,
        scale_children_by_parent: bool = False,
        feature_id: str | int | None = None,
    ) -> None:
        if feature_index is not None:
            feature_index = as_int("feature_index", feature_index, low=0, high=_LARGEST_INDEX)
        self.feature_index = feature_index
        self.children = [] if children is None else _nodes("children", children)
        self.mutually_exclusive_children = as_bool(
            "mutually_exclusive_children", mutually_exclusive_children
        )
        self.scale_children_by_parent = as_bool(
            "scale_children_by_parent", scale_children_by_parent
        )
        if feature_id is not None:
            feature_id = plain_number(feature_id)
            if type(feature_id) not in (str, int):
                raise TypeError(
                    f"feature_id must be a string, an integer or None, got {feature_id!r}"
                )
        self.feature_id = feature_id
        _check_exclusion(self, len(self.children))

    @classmethod
    def from_dict(cls, tree_dict: Mapping[str, Any]) -> HierarchyNode:
        """The tree that a nested mapping describes.

        Keys: ``feature_index``, ``children``, ``mutually_exclusive_children``,
        ``scale_children_by_parent`` and ``id`` (or ``feature_id``), all optional. Others are left
        out, as in SAELens, with a warning.
        """
        unknown: set[Any] = set()
        top: list[HierarchyNode] = []
        waiting = [(tree_dict, top)]
        while waiting:
            item, siblings = waiting.pop()
            if type(item) is not dict and not isinstance(item, Mapping):
                raise TypeError(f"hierarchy node must be a mapping, got {item!r}")
            if not item.keys() <= _KEYS:
                unknown |= item.keys() - _KEYS
            get = item.get
            node = cls(
                get("feature_index"),
                None,
                False,
                get("scale_children_by_parent", False),
                get("feature_id", get("id")),
            )
            siblings.append(node)
            below = get("children")
            if below is None:
                below = ()
            if not isinstance(below, (list, tuple)):
                raise TypeError(f"children must be a list, got {below!r} at {describe(node)}")
            # Its children are still to come.
            node.mutually_exclusive_children = as_bool(
                "mutually_exclusive_children", get("mutually_exclusive_children", False)
            )
            _check_exclusion(node, len(below))
            if below:
                # The last in is the first out, so that siblings arrive in order.
                waiting.extend([(child, node.children) for child in reversed(below)])
        if unknown:
            names = sorted(str(key) for key in unknown)
            warn(
                f"hierarchy nodes have unknown keys {names}, which are left out; known are "
                f"{sorted(_KEYS)}",
                stacklevel=2,
            )
        return top[0]

    def to_dict(self) -> dict[str, Any]:
        """The tree as nested dictionaries of JSON types.

        Raises:
            ValueError: where nodes form no tree, as all that goes through the nodes does.
        """
        top: list[dict[str, Any]] = []
        waiting: list[tuple[HierarchyNode, list[dict[str, Any]]]] = [(self, top)]
        seen: set[int] = set()
        while waiting:
            node, siblings = waiting.pop()
            _check_new(node, seen)
            below: list[dict[str, Any]] = []
            siblings.append(
                {
                    "feature_index": node.feature_index,
                    "mutually_exclusive_children": node.mutually_exclusive_children,
                    "scale_children_by_parent": node.scale_children_by_parent,
                    "feature_id": node.feature_id,
                    "children": below,
                }
            )
            waiting.extend((child, below) for child in reversed(node.children))
        return top[0]

    def get_all_feature_indices(self) -> list[int]:
        """The features of the tree, a node before its children and children in order."""
        nodes = (node for node, _ in walk([self]))
        return [node.feature_index for node in nodes if node.feature_index is not None]

    def validate(self) -> None:
        """Check the tree; see :func:`validate_hierarchy`."""
        validate_hierarchy([self])

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made of a flat list, so that a deep tree is no deep recursion."""
        nodes = [
            (*_own(node), len(node.children), getattr(node, "__dict__", None) or None)
            if type(node) is type(self)
            else (*_own(node), len(node.children), None)
            for node, _ in walk([self])
        ]
        return _rebuild, (type(self), nodes)

    def __eq__(self, other: object) -> bool:
        if not is_node(other):
            return NotImplemented
        waiting: list[tuple[Any, Any]] = [(self, other)]
        seen: set[tuple[int, int]] = set()
        while waiting:
            a, b = waiting.pop()
            if a is b or (id(a), id(b)) in seen:
                continue
            seen.add((id(a), id(b)))
            if _own(a) != _own(b) or len(a.children) != len(b.children):
                return False
            waiting.extend(zip(a.children, b.children, strict=True))
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = []
        for node, depth in walk([self]):
            marks = [
                mark
                for mark, holds in (
                    ("mutually exclusive children", node.mutually_exclusive_children),
                    ("scales children", node.scale_children_by_parent),
                )
                if holds
            ]
            # Indenting a chain all the way would take the square of its length.
            indent = "  " * min(depth, _DEEPEST_INDENT)
            level = f"(level {depth}) " if depth > _DEEPEST_INDENT else ""
            lines.append(
                indent + level + describe(node) + (f" [{', '.join(marks)}]" if marks else "")
            )
        return "\n".join(lines)


def _own(node: HierarchyNode) -> tuple[Any, ...]:
    """All but the children."""
    return (
        node.feature_index,
        node.mutually_exclusive_children,
        node.scale_children_by_parent,
        node.feature_id,
    )


def _rebuild(kind: type[HierarchyNode], nodes: list[tuple[Any, ...]]) -> HierarchyNode:
    """The tree of its nodes' fields and numbers of children, a node before its children."""
    top: list[HierarchyNode] = []
    waiting = [(top, 1)]  # lists of children, and how many each still lacks
    for index, exclusive, scaled, feature_id, size, others in nodes:
        siblings, missing = waiting.pop()
        if missing > 1:
            waiting.append((siblings, missing - 1))
        node = kind(index, None, False, scaled, feature_id)
        node.mutually_exclusive_children = exclusive
        if others:
            node.__dict__.update(others)
        siblings.append(node)
        if size:
            waiting.append((node.children, size))
    return top[0]


def describe(node: HierarchyNode) -> str:
    """A node's name in one line."""
    name = "organisational node" if node.feature_index is None else f"feature {node.feature_index}"
    return name if node.feature_id is None else f"{name} ({node.feature_id})"


def as_roots(roots: Sequence[HierarchyNode] | HierarchyNode) -> list[HierarchyNode]:
    """One root or a sequence of roots as a list."""
    return [roots] if is_node(roots) else _nodes("roots", roots)


def is_node(value: Any) -> TypeGuard[HierarchyNode]:
    """Whether ``value`` is a node, or has all that makes one."""
    return isinstance(value, HierarchyNode) or all(hasattr(value, name) for name in _ATTRIBUTES)


def _nodes(name: str, value: Any) -> list[HierarchyNode]:
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of HierarchyNodes, got {value!r}")
    nodes = value if isinstance(value, list) and value else list(value)
    for node in nodes:
        if not is_node(node):
            raise TypeError(f"{name} must hold HierarchyNodes, got {node!r}")
    return nodes


def validate_hierarchy(roots: Sequence[HierarchyNode], num_features: int | None = None) -> None:
    """Check that nodes form trees and that every feature has one place.

    Args:
        roots: of the trees.
        num_features: where given, N that every feature must be below.

    Raises:
        ValueError: naming the node, for a loop, a node with two parents, a feature in two places,
            an index outside [0, N), or mutual exclusion with fewer than two children.
    """
    tree_of: dict[int, int] = {}
    seen: set[int] = set()
    for tree, root in enumerate(roots):
        waiting = [root]
        while waiting:
            node = waiting.pop()
            _check_new(node, seen)
            _check_node(node, tree, tree_of, num_features)
            if node.children:
                # The last in is the first out, so that siblings are looked at in order.
                waiting.extend(reversed(node.children))


def _check_new(node: HierarchyNode, seen: set[int]) -> None:
    """Raise where a node was come by before: there is no end of a loop, and none near in a net."""
    if id(node) in seen:
        raise ValueError(
            f"hierarchy must not loop, got {describe(node)} below itself"
            if _is_below_itself(node)
            else f"hierarchy node must have one parent, got {describe(node)} in two places"
        )
    seen.add(id(node))


def _is_below_itself(node: HierarchyNode) -> bool:
    seen: set[int] = set()
    waiting = list(node.children)
    while waiting:
        below = waiting.pop()
        if below is node:
            return True
        if id(below) not in seen:
            seen.add(id(below))
            waiting.extend(below.children)
    return False


def _check_exclusion(node: HierarchyNode, children: int) -> None:
    if node.mutually_exclusive_children and children < 2:
        raise ValueError(
            "mutually_exclusive_children needs two children or more, "
            f"got {children} at {describe(node)}"
        )


def _check_node(
    node: HierarchyNode, tree: int, tree_of: dict[int, int], num_features: int | None
) -> None:
    _check_exclusion(node, len(node.children))
    index = node.feature_index
    if index is None:
        return
    # The name takes longer to write than the check to make.
    if type(index) is not int or not 0 <= index <= _LARGEST_INDEX:
        as_int(f"feature_index of {describe(node)}", index, low=0, high=_LARGEST_INDEX)
    if num_features is not None and index >= num_features:
        raise ValueError(
            f"feature_index must be below num_features = {num_features}, got {describe(node)}"
        )
    if index in tree_of:
        where = "twice in one tree" if tree_of[index] == tree else "in two trees"
        raise ValueError(f"hierarchy must hold a feature once, got {describe(node)} {where}")
    tree_of[index] = tree


def walk(roots: Sequence[HierarchyNode]) -> Iterator[tuple[HierarchyNode, int]]:
    """Nodes and their depths, a node before its children and children in order."""
    waiting, seen = [(root, 0) for root in reversed(roots)], set[int]()
    while waiting:
        node, depth = waiting.pop()
        _check_new(node, seen)
        yield node, depth
        waiting.extend((child, depth + 1) for child in reversed(node.children))


@dataclass
class HierarchyConfig(PlainConfig):
    """A recipe for a random forest; see :func:`synthkern.generate_hierarchy`.

    Attributes:
        total_root_nodes: number of trees.
        branching_factor: children of a node, or (least, most) of them; at least 2.
        max_depth: levels below the roots, at least 1.
        mutually_exclusive_portion: share in [0, 1] of the eligible parents whose children become
            mutually exclusive; a parent with two children or more is eligible.
        mutually_exclusive_min_depth: least depth of an eligible parent; a root's is 0.
        mutually_exclusive_max_depth: greatest depth of one, or None.
        compensate_probabilities: True multiplies base probabilities by
            :meth:`synthkern.Hierarchy.compute_probability_correction_factors`, the field's
            customary and approximate rule; "exact" takes those with which features fire as often
            as requested, or as near as can be, of
            :func:`synthkern.calibrate_firing_probabilities`.
        scale_children_by_parent: whether parents scale their children.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.HierarchyConfig(total_root_nodes=1, branching_factor=2, max_depth=2)
        >>> synthetic.generate_hierarchy(num_features=7, config=config).roots[0]
        feature 0
          feature 1
            feature 3
            feature 4
          feature 2
            feature 5
            feature 6
    """

    _called = "hierarchy"

    total_root_nodes: int = 100
    branching_factor: int | tuple[int, int] = 100
    max_depth: int = 2
    mutually_exclusive_portion: float = 0.0
    mutually_exclusive_min_depth: int = 0
    mutually_exclusive_max_depth: int | None = None
    compensate_probabilities: bool | Literal["exact"] = False
    scale_children_by_parent: bool = False

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("total_root_nodes", self.total_root_nodes, low=1)
        if isinstance(self.branching_factor, (tuple, list)):
            if len(self.branching_factor) != 2:
                raise ValueError(
                    f"branching_factor must be a number or a pair, got {self.branching_factor!r}"
                )
            least = as_int("branching_factor[0]", self.branching_factor[0], low=2)
            most = as_int("branching_factor[1]", self.branching_factor[1], low=least)
            self.branching_factor = (least, most)
        else:
            as_int("branching_factor", self.branching_factor, low=2)
        as_int("max_depth", self.max_depth, low=1)
        as_float("mutually_exclusive_portion", self.mutually_exclusive_portion, low=0, high=1)
        low = as_int("mutually_exclusive_min_depth", self.mutually_exclusive_min_depth, low=0)
        if self.mutually_exclusive_max_depth is not None:
            as_int("mutually_exclusive_max_depth", self.mutually_exclusive_max_depth, low=low)
        compensation: Any = self.compensate_probabilities
        if not isinstance(compensation, bool) and compensation != "exact":
            kind = ValueError if isinstance(compensation, str) else TypeError
            raise kind(
                f'compensate_probabilities must be True, False or "exact", got {compensation!r}'
            )
        as_bool("scale_children_by_parent", self.scale_children_by_parent)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        data = super().to_dict()
        if isinstance(self.branching_factor, tuple):
            data["branching_factor"] = list(self.branching_factor)
        return data
