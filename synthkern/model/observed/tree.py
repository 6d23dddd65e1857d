"""A tree guessed from which features are active together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthkern.model.observed.entries import Entries
from synthkern.world.hierarchy import HierarchyNode

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Numbers of co-activations held at once: 16 MiB.
_AT_ONCE = 2**21

#: The chance that anything at all is told where there is nothing, all pairs together.
_LEVEL = 0.01

#: Features that meet this seldom, in units of what independent ones do, may be so by correlation.
_RARELY = 0.1


class CoActivations:
    """In how many samples features are active together.

    Attributes:
        fires: [N], in how many each is active.
        num_samples: B.
    """

    def __init__(self, entries: Entries) -> None:
        self._active = entries.ones()
        self._by_feature = self._active.T.tocsr()
        self.fires: Ints = np.diff(self._by_feature.indptr).astype(np.int64)
        self.num_samples = entries.num_samples
        self.num_features = entries.num_features

    def rows(self, features: Ints) -> npt.NDArray[np.int32]:
        """Of some features [K] with all: [K, N]."""
        both = self._by_feature[features] @ self._active
        found: npt.NDArray[np.int32] = both.toarray()
        return found

    def blocks(self, features: Ints) -> Iterator[tuple[Ints, npt.NDArray[np.int32]]]:
        """Some features a few at a time, with their rows."""
        step = max(1, _AT_ONCE // max(1, self.num_features))
        for first in range(0, len(features), step):
            part = features[first : first + step]
            yield part, self.rows(part)


@dataclass(frozen=True, eq=False)
class GuessedTree:
    """Which features imply which, and which exclude each other.

    Attributes:
        parent: [N], the nearest feature that is active wherever this one is, or -1.
        group: [N], the exclusive group among the children of one parent, or among features without
            one, or -1.
        level: [N], how many ancestors each has.
    """

    parent: Ints
    group: Ints
    level: Ints

    @property
    def num_edges(self) -> int:
        """Features that have a parent."""
        return int((self.parent >= 0).sum())

    @property
    def num_groups(self) -> int:
        """Exclusive groups."""
        return int(self.group.max(initial=-1)) + 1

    def below(self) -> Iterator[Ints]:
        """The features with 1, 2, ... ancestors."""
        for level in range(1, int(self.level.max(initial=0)) + 1):
            yield np.flatnonzero(self.level == level)

    def nodes(self, scales: Bools) -> list[HierarchyNode]:
        """The trees' roots, exclusive groups under nodes of their own.

        Args:
            scales: [N], whether a feature scales its children.
        """
        nodes: dict[int, HierarchyNode] = {}
        groups: dict[int, HierarchyNode] = {}
        roots: list[HierarchyNode] = []
        placed = np.flatnonzero((self.parent >= 0) | (self.group >= 0) | self._has_children())
        for feature in placed[np.argsort(self.level[placed], kind="stable")].tolist():
            node = HierarchyNode(feature, scale_children_by_parent=bool(scales[feature]))
            parent, group = int(self.parent[feature]), int(self.group[feature])
            siblings = roots if parent < 0 else nodes[parent].children
            nodes[feature] = node
            if group < 0:
                siblings.append(node)
                continue
            if group not in groups:
                scaled = parent >= 0 and bool(scales[parent])
                groups[group] = HierarchyNode(scale_children_by_parent=scaled)
                siblings.append(groups[group])
            groups[group].children.append(node)
        for each in groups.values():
            each.mutually_exclusive_children = True
        for node in nodes.values():
            # A group that is the whole family needs no node of its own.
            if len(node.children) == 1 and node.children[0].feature_index is None:
                node.children = node.children[0].children
                node.mutually_exclusive_children = True
        return roots

    def _has_children(self) -> Bools:
        found = np.zeros(len(self.parent), np.bool_)
        found[self.parent[self.parent >= 0]] = True
        return found


def no_tree(num_features: int) -> GuessedTree:
    """Where none is looked for."""
    none = np.full(num_features, -1)
    return GuessedTree(none, none.copy(), np.zeros(num_features, np.int64))


def guess_tree(together: CoActivations, containment: float) -> GuessedTree:
    """The tree that co-activation tells.

    Feature a may be above b where it is active in a share ``containment`` of the samples of b, and
    in more than b, and where that is no chance: where even a feature that is brought along with b
    half way from its own rate p_a to always, (1 + p_a) / 2, would be missed in some of b's samples,
    but for 1% of all pairs together. The nearest ancestor is active most seldom: of those that may
    be, that one is the parent.

    The children of a parent exclude each other where no two are ever active together, though such
    would be that meet a tenth as often as independent ones: ``exp(-sum n_i n_j / n_parent / 10)``,
    the chance of no meeting, is below 1% for all families together. Among others, and among
    features without a parent, groups are told whose every pair says so by itself.
    """
    features = np.flatnonzero(together.fires > 0)
    parent = np.full(together.num_features, -1)
    for part, rows in together.blocks(features):
        parent[part] = _parents(part, rows, together, containment)
    level = np.zeros(len(parent), np.int64)
    for feature in features[np.argsort(-together.fires[features], kind="stable")].tolist():
        if parent[feature] >= 0:
            level[feature] = level[parent[feature]] + 1
    return GuessedTree(parent, _groups(together, features, parent), level)


def _parents(
    part: Ints, rows: npt.NDArray[np.int32], together: CoActivations, containment: float
) -> Ints:
    fires, count = together.fires, together.num_features
    own = fires[part][:, None]
    chance = (1 + fires / together.num_samples) / 2
    enough = math.log(max(2, count) ** 2 / _LEVEL)
    index = np.arange(count)
    may_be = (fires > own) | ((fires == own) & (index < part[:, None]))
    may_be &= (rows >= containment * own) & (index != part[:, None])
    may_be &= -np.log(chance) * own >= enough
    # Of features that are always active together the last is nearest.
    order = np.where(may_be, fires * count + (count - 1 - index), np.iinfo(np.int64).max)
    nearest = order.argmin(axis=1)
    return np.where(may_be.any(axis=1), nearest, -1)


def _groups(together: CoActivations, features: Ints, parent: Ints) -> Ints:
    """The exclusive group of each feature, or -1."""
    group = np.full(len(parent), -1)
    by_parent: dict[int, list[int]] = {}
    for feature in features.tolist():
        by_parent.setdefault(int(parent[feature]), []).append(feature)
    families = {above: np.array(each) for above, each in by_parent.items() if len(each) > 1}
    number = 0
    for above, members in families.items():
        whole = together.num_samples if above < 0 else int(together.fires[above])
        for found in _exclusive(together, members, whole, len(families)):
            group[found] = number
            number += 1
    return group


def _exclusive(
    together: CoActivations, members: Ints, whole: int, families: int
) -> list[Sequence[int]]:
    """Groups among siblings of a parent that is active in so many samples."""
    fires = together.fires[members].astype(float)
    each = math.log(len(members) ** 2 / _LEVEL)
    meetings, expected = 0, 0.0
    pairs: dict[int, set[int]] = {}
    for part, rows in together.blocks(members):
        both = rows[:, members]
        place = np.searchsorted(members, part)
        alone = fires[place][:, None] * fires / whole
        later = np.arange(len(members)) > place[:, None]
        meetings += int(both[later].sum())
        expected += float(alone[later].sum())
        a, b = np.nonzero(later & (both == 0) & (_RARELY * alone >= each))
        for first, second in zip(place[a].tolist(), b.tolist(), strict=True):
            pairs.setdefault(first, set()).add(second)
            pairs.setdefault(second, set()).add(first)
    if meetings == 0 and _RARELY * expected >= math.log(families / _LEVEL):
        return [members.tolist()]
    groups = []
    free = set(pairs)
    for first in np.argsort(-fires, kind="stable").tolist():
        if first not in free:
            continue
        found, near = [first], pairs[first] & free
        while near:
            best = min(near, key=lambda j: (-fires[j], j))
            found.append(best)
            near &= pairs[best]
        if len(found) > 1:
            free -= set(found)
            groups.append(members[found].tolist())
    return groups
