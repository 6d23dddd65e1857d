"""A world's shift at work: forbidden pairs as forests, and the numbers of the shifted twin."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from synthkern._warnings import warn
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.hierarchy import Hierarchy
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.model.manifold_vectors import place_manifolds
from synthkern.plan import Forest
from synthkern.world.config import LowRankCorrelationConfig, SyntheticModelConfig
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.hierarchy import HierarchyNode
from synthkern.world.shift import EVALUATION, ShiftConfig

#: Of the seed of the twin's correlation, beside the seeds of the world's parts.
_CORRELATION_PART = 100

#: A pair of features, the lesser first.
Pair = tuple[int, int]


class ForbiddenPairs(HierarchyModifier):
    """Keeps pairs of features from being active together, with all that is below them.

    Attributes:
        pairs: which, the lesser feature first.
    """

    def __init__(self, roots: Sequence[HierarchyNode], pairs: Sequence[Pair]) -> None:
        super().__init__(roots)
        self.pairs = tuple(pairs)


def pairs_kept_apart(generator: Any) -> list[Pair]:
    """The pairs of features that a generator never makes active together by its world's shift."""
    modifiers = getattr(generator, "modify_activations", None)
    if not isinstance(modifiers, tuple | list):
        return []
    return [pair for each in modifiers if isinstance(each, ForbiddenPairs) for pair in each.pairs]


class _Trees:
    """A world's trees as the shift sees them.

    Attributes:
        parent: of each feature, the nearest ancestor that has one, or -1.
        group: its exclusive group, or -1.
        level: how many ancestors it has; -1 outside the trees.
        children: by feature, where it has any.
    """

    def __init__(self, num_features: int, hierarchy: Hierarchy | None) -> None:
        self.num_features = num_features
        self.parent, self.group, self.level = ([-1] * num_features for _ in range(3))
        self.children: dict[int, list[int]] = {}
        # Trees that nothing applies are none.
        self.has_trees = hierarchy is not None and hierarchy.modifier is not None
        if self.has_trees:
            assert hierarchy is not None
            self._read(hierarchy.compiled(num_features))

    def _read(self, forest: Forest) -> None:
        features, parents, groups = (
            each.tolist() for each in (forest.feature, forest.parent, forest.group)
        )
        for feature, parent, group in zip(features, parents, groups, strict=True):
            above = features[parent] if parent >= 0 else -1
            self.parent[feature], self.group[feature] = above, group
            self.level[feature] = self.level[above] + 1 if above >= 0 else 0
            if above >= 0:
                self.children.setdefault(above, []).append(feature)

    def path(self, feature: int) -> list[int]:
        """A feature and its ancestors, from the top."""
        found = [feature]
        while self.parent[found[-1]] >= 0:
            found.append(self.parent[found[-1]])
        return found[::-1]

    def objection(self, a: int, b: int) -> str | None:
        """Why a pair cannot be forbidden, or None."""
        paths = self.path(a), self.path(b)
        for first, second in zip(*paths, strict=False):
            if first != second:
                if self.group[first] == self.group[second] >= 0:
                    return "which mutual exclusion keeps from ever being active together"
                return None
        below = a if len(paths[0]) > len(paths[1]) else b
        above = b if below == a else a
        return f"of which {below} implies {above}, its ancestor in the hierarchy"

    def below(self, feature: int) -> Iterator[int]:
        """A feature and all below it, parents first."""
        waiting = [feature]
        for each in waiting:
            yield each
            waiting.extend(self.children.get(each, ()))

    def tree(self, feature: int) -> HierarchyNode:
        """A feature with all that is below it, to be silent with it."""
        nodes: dict[int, HierarchyNode] = {}
        for each in self.below(feature):
            nodes[each] = HierarchyNode(each)
            if each != feature:
                nodes[self.parent[each]].children.append(nodes[each])
        return nodes[feature]


def forbidden_pairs(cfg: SyntheticModelConfig, hierarchy: Hierarchy | None) -> list[Pair]:
    """The pairs of features that never are active together in a config's world, but in its twin.

    Those that are given come first, then those that are drawn. The twin's config has the same.

    Raises:
        ValueError: for an unknown feature, or a pair of which one feature implies the other or
            that the hierarchy's own mutual exclusion forbids already; and where there are not as
            many pairs as are to be drawn.
    """
    if cfg.shift is None:
        return []
    return _forbidden(cfg, _Trees(cfg.num_features, hierarchy), hierarchy)


def forbidding_modifiers(
    cfg: SyntheticModelConfig, hierarchy: Hierarchy | None
) -> list[ForbiddenPairs]:
    """What keeps forbidden pairs apart in a config's world, to be applied after its hierarchy.

    None in the twin, and without a shift. Pairs go to the first of several forests in which no
    feature of theirs, or below, has a place yet: a greedy colouring.
    """
    if cfg.shift is None or cfg.shift.is_twin:
        return []
    trees = _Trees(cfg.num_features, hierarchy)
    forests: list[tuple[set[int], list[Pair]]] = []
    for a, b in _forbidden(cfg, trees, hierarchy):
        features = {*trees.below(a), *trees.below(b)}
        taken, pairs = next((each for each in forests if each[0].isdisjoint(features)), (set(), []))
        if not taken:
            forests.append((taken, pairs))
        taken |= features
        pairs.append((a, b))
    return [
        ForbiddenPairs(
            [HierarchyNode(None, [trees.tree(a), trees.tree(b)], True) for a, b in pairs], pairs
        )
        for _, pairs in forests
    ]


def _forbidden(cfg: SyntheticModelConfig, trees: _Trees, hierarchy: Hierarchy | None) -> list[Pair]:
    shift = cfg.shift
    assert shift is not None
    for a, b in shift.forbidden_pairs:
        if b >= cfg.num_features:
            raise ValueError(
                f"forbidden_pairs must be of features below num_features = {cfg.num_features}, "
                f"got {(a, b)}"
            )
        objection = trees.objection(a, b)
        if objection is not None:
            raise ValueError(
                "forbidden_pairs must be of features that could be active together and apart, "
                f"got {(a, b)}, {objection}"
            )
    pairs = list(shift.forbidden_pairs)
    if shift.num_forbidden_pairs:
        taken = {feature for pair in pairs for feature in pair}
        manifolds = place_manifolds(cfg, hierarchy)
        if manifolds is not None:  # of which leaders alone fire by themselves
            taken |= set(manifolds.partners().tolist())
        pairs += _drawn(cfg, trees, taken)
    return pairs


def _drawn(cfg: SyntheticModelConfig, trees: _Trees, taken: set[int]) -> list[Pair]:
    """Random pairs of the features of a level that are in no other pair."""
    shift = cfg.shift
    assert shift is not None
    count, level = shift.num_forbidden_pairs, shift.forbidden_level
    # Without trees all features are at the top.
    wanted = level if trees.has_trees else level - 1
    features = [j for j, found in enumerate(trees.level) if found == wanted and j not in taken]
    random.Random(f"forbidden pairs {shift.seed}").shuffle(features)
    pairs: list[Pair] = []
    waiting: list[int] = []
    for feature in features:
        if len(pairs) == count:
            break
        other = next((j for j in waiting if trees.objection(feature, j) is None), None)
        if other is None:
            waiting.append(feature)
        else:
            waiting.remove(other)
            pairs.append((min(feature, other), max(feature, other)))
    if len(pairs) < count:
        raise ValueError(
            f"num_forbidden_pairs must be at most {len(pairs)}, as many as {len(features)} "
            f"unpaired features of level {level} give, got {count}"
        )
    return pairs


def tree_levels(num_features: int, hierarchy: Hierarchy | None) -> torch.Tensor:
    """How many ancestors each feature has: [N] int64, -1 outside the trees."""
    return torch.tensor(_Trees(num_features, hierarchy).level, device="cpu")


def shifted_rates(shift: ShiftConfig, level: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """The twin's rates [N] of the world's, base rates or requested ones.

    Args:
        shift: what differs.
        level: see :func:`tree_levels`.
        rates: [N].

    Warns where a rate would be above 1.
    """
    found = rates.detach().cpu().clone()
    chance = random.Random(f"permuted rates {shift.seed}")
    for number in range(-1, int(level.max()) + 1):
        alike = ((level == number) & (found > 0)).nonzero().flatten().tolist()
        order = torch.tensor(
            chance.sample(alike, int(shift.permuted_rates * len(alike) + 0.5)),
            dtype=torch.int64,
            device="cpu",
        )
        # A cycle through all of them in a random order leaves none its own.
        found[order] = found[order.roll(1)]
    top = level <= 0
    wanted = found[top] * shift.rate_factor
    if bool((wanted > 1).any()):
        warn(
            f"rate_factor = {shift.rate_factor:g} asks for base probabilities above 1 of "
            f"{int((wanted > 1).sum())} features (at most {float(wanted.max()):.3g}), which were "
            "set to 1",
            stacklevel=4,
        )
    found[top] = wanted.clamp(max=1)
    return found.to(rates.device)


def twin_config(cfg: SyntheticModelConfig) -> SyntheticModelConfig:
    """The config of the shifted twin of a config's world.

    Raises:
        ValueError: where there is no shift, or the config is a twin's already.
    """
    if cfg.shift is None:
        raise ValueError("cfg must have a shift to have a shifted twin, got shift = None")
    if cfg.shift.is_twin:
        raise ValueError(f"cfg must be of a world that is no twin itself, got {cfg.shift!r}")
    return replace(cfg, shift=replace(cfg.shift, side=EVALUATION))


def twin_generator(
    cfg: SyntheticModelConfig,
    hierarchy: Hierarchy | None,
    generator: ActivationGenerator,
    correlation: LowRankCorrelationMatrix | None,
) -> ActivationGenerator:
    """The generator of the shifted twin of a world, made of the world's own numbers.

    Args:
        cfg: the world's, with a shift.
        hierarchy: the world's.
        generator: the world's, which stays as it is.
        correlation: the twin's, where the shift has another.

    Raises:
        ValueError: where the generator does not keep the forbidden pairs apart.
    """
    assert cfg.shift is not None
    apart, wanted = pairs_kept_apart(generator), forbidden_pairs(cfg, hierarchy)
    if sorted(apart) != sorted(wanted):
        raise ValueError(
            "activation_generator must keep the pairs apart that its config's shift forbids, "
            f"{wanted}, got {apart}"
        )
    own = generator.modify_activations or ()
    twin = copy.deepcopy(generator)
    twin.modify_activations = [each for each in own if not isinstance(each, ForbiddenPairs)]
    twin.firing_probabilities = shifted_rates(
        cfg.shift, tree_levels(cfg.num_features, hierarchy), generator.plan.probability
    )
    if cfg.shift.has_other_correlation:
        twin.correlation_matrix = correlation
    return twin


def correlation_recipe(cfg: SyntheticModelConfig) -> LowRankCorrelationConfig | None:
    """The random correlation of a config's world, or of the twin where it is one's.

    Raises:
        ValueError: for a seed of another correlation without a scale, in a world that has none.
    """
    shift, recipe = cfg.shift, cfg.correlation
    if shift is None or not shift.is_twin or not shift.has_other_correlation:
        return recipe
    scale = shift.correlation_scale
    if scale is None:
        if recipe is None:
            raise ValueError(
                "correlation_scale must be given with correlation_seed where the world has no "
                "correlation, got None"
            )
        scale = recipe.correlation_scale
    if scale == 0:
        return None
    seed = shift.correlation_seed
    if seed is None:
        seed = ((cfg.seed or 0) + _CORRELATION_PART + shift.seed) % 2**64
    rank = LowRankCorrelationConfig.rank if recipe is None else recipe.rank
    return LowRankCorrelationConfig(rank, scale, seed)


def same_modifiers(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether modifiers are the same, one by one, or apply the same trees."""
    return len(first) == len(second) and all(
        a is b or _is_same(a, b) for a, b in zip(first, second, strict=True)
    )


def _is_same(first: Any, second: Any) -> bool:
    both = isinstance(first, HierarchyModifier) and isinstance(second, HierarchyModifier)
    return both and all(
        torch.equal(getattr(first.forest, name), getattr(second.forest, name))
        for name in ("feature", "parent", "scaled", "group")
    )
