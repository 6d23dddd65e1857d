"""Hierarchies: their trees together with what applies them, and random ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from synthkern._checks import as_int, as_seed, as_vector, check_keys, check_tensor
from synthkern.model.hierarchy_modifier import HierarchyModifier, hierarchy_modifier
from synthkern.plan import Forest, compile_forest
from synthkern.stream import fresh_seed
from synthkern.world.foreign import as_config, is_foreign
from synthkern.world.hierarchy import (
    HierarchyConfig,
    HierarchyNode,
    as_roots,
    validate_hierarchy,
    walk,
)

#: Where no modifier is given: one is made from the roots. None is a modifier that is given.
_FROM_ROOTS: Any = object()


@dataclass(eq=False)
class Hierarchy:
    """Trees of features and the modifier that applies them.

    Attributes:
        roots: of the trees; a list is kept, not copied.
        modifier: what applies them to activations, and None where nothing does; made from the
            roots, of which there may be none, where it is left out. Two hierarchies are equal
            where their roots are.

    Raises:
        ValueError: naming the node, for roots that make no forest.
        TypeError: for a value of a wrong type.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> hierarchy = synthetic.Hierarchy([tree])
        >>> hierarchy.feature_indices_used
        {0, 1}
        >>> hierarchy.compute_probability_correction_factors(torch.full((2,), 0.5))
        tensor([1., 2.])
    """

    roots: list[HierarchyNode]
    modifier: Callable[..., Any] | None = _FROM_ROOTS

    def __post_init__(self) -> None:
        self.roots = as_roots(self.roots)
        if self.modifier is _FROM_ROOTS:
            self.modifier = hierarchy_modifier(self.roots) if self.roots else None
        elif self.modifier is not None and not callable(self.modifier):
            raise TypeError(f"modifier must be callable or None, got {self.modifier!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hierarchy):
            return NotImplemented
        return self.roots == other.roots

    __hash__ = None  # type: ignore[assignment]

    @property
    def feature_indices_used(self) -> set[int]:
        """The features that stand in some tree."""
        return {
            node.feature_index for node, _ in walk(self.roots) if node.feature_index is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """``{"roots": [tree, ...]}`` of JSON types."""
        return {"roots": [HierarchyNode.to_dict(root) for root in self.roots]}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Hierarchy:
        """The hierarchy that :meth:`to_dict` describes."""
        check_keys("hierarchy", d, {"roots"})
        if "roots" not in d:
            raise ValueError("hierarchy must have the key 'roots', got none")
        roots = d["roots"]
        if not isinstance(roots, (list, tuple)):
            raise TypeError(f"roots must be a list, got {roots!r}")
        return cls([HierarchyNode.from_dict(root) for root in roots])

    def compute_probability_correction_factors(
        self, base_firing_probabilities: torch.Tensor
    ) -> torch.Tensor:
        """Factors on base probabilities that make up for what the trees take away.

        The factor of a feature is 1 / P with P the base probability of its nearest ancestor with
        a feature (1 at the top), and in an exclusive group that times 1 + (sum of the siblings'
        base probabilities) / P; it is 1 where P is 0, as such a feature never fires. It is
        SAELens' rule, and only approximate: it counts neither what the ancestors' own ancestors
        take nor how often siblings meet.

        Args:
            base_firing_probabilities: [N], in [0, 1].

        Returns:
            Factors [N], 1 outside the trees.

        Raises:
            ValueError: for a probability outside [0, 1], or a feature of the trees that is not
                below N.
        """
        base = base_firing_probabilities
        check_tensor("base_firing_probabilities", base)
        if base.dim() != 1:
            raise ValueError(
                f"base_firing_probabilities must have shape [N], got {list(base.shape)}"
            )
        as_vector("base_firing_probabilities", base, base.numel(), low=0, high=1)
        factors = torch.ones_like(base)
        if not self.roots:
            return factors
        forest = self.compiled(base.numel())
        features, parent = forest.feature.long(), forest.parent.long()
        own = base[features].double()
        above = torch.where(parent >= 0, own[parent.clamp(min=0)], 1.0)
        # Whatever stands below a feature that never fires never does either.
        above = torch.where(above > 0, above, torch.inf)
        siblings = forest.group_totals(own) - own
        wanted = (1 + siblings / above) / above
        factors[features] = torch.where(above.isinf(), 1.0, wanted).to(base.dtype)
        return factors

    def compiled(self, num_features: int) -> Forest:
        """The trees as flat arrays.

        Raises:
            ValueError: where a feature of the trees is not below ``num_features``.
        """
        if isinstance(self.modifier, HierarchyModifier):
            self.modifier.check_fits(num_features)
            return self.modifier.forest
        validate_hierarchy(self.roots, num_features)
        return compile_forest(self.roots)


def as_hierarchy(name: str, value: Any) -> Hierarchy:
    """A hierarchy as it is; SAELens' as ours of the same nodes.

    Its package's own modifier becomes ours of the same trees, which the engine applies and which
    can be saved; a callable from elsewhere stays.

    Raises:
        TypeError: for anything else.
        ValueError: for roots that make no forest.
    """
    if isinstance(value, Hierarchy):
        return value
    if not is_foreign(value, Hierarchy) or not hasattr(value, "roots"):
        raise TypeError(f"{name} must be a Hierarchy or None, got {value!r}")
    modifier = getattr(value, "modifier", None)
    package = next(k for k in type(value).__mro__ if k.__name__ == "Hierarchy").__module__
    origin = getattr(modifier, "__module__", None) or ""
    is_theirs = origin.partition(".")[0] == package.partition(".")[0]
    return Hierarchy(value.roots, _FROM_ROOTS if is_theirs else modifier)


def generate_hierarchy(
    num_features: int, config: HierarchyConfig, seed: int | None = None
) -> Hierarchy:
    """A random forest over the first features.

    Features are dealt breadth first: all roots take the first ones, then level by level every
    node its children, until ``config.max_depth`` or until the features run out. Then a random
    ``mutually_exclusive_portion`` of the eligible parents, rounded down, becomes exclusive.

    Args:
        num_features: N, at least 0; with fewer features than roots there are N roots.
        config: the recipe, ours or SAELens'.
        seed: of a generator of this call's own; None draws one from torch's global generator.

    Returns:
        The trees, SAELens' for the same seed, and their modifier.

    Example:
        >>> import synthkern as synthetic
        >>> config = synthetic.HierarchyConfig(total_root_nodes=2, branching_factor=2, max_depth=1)
        >>> hierarchy = synthetic.generate_hierarchy(num_features=6, config=config, seed=0)
        >>> [root.get_all_feature_indices() for root in hierarchy.roots]
        [[0, 2, 3], [1, 4, 5]]
    """
    n = as_int("num_features", num_features, low=0)
    config = as_config("config", config, HierarchyConfig)
    chance = random.Random(fresh_seed() if seed is None else as_seed("seed", seed))
    roots, levels = _deal(n, config, chance)
    eligible = list(_eligible(levels, config))
    for node in chance.sample(eligible, int(len(eligible) * config.mutually_exclusive_portion)):
        node.mutually_exclusive_children = True
    return Hierarchy(roots)


def _deal(
    num_features: int, config: HierarchyConfig, chance: random.Random
) -> tuple[list[HierarchyNode], list[list[HierarchyNode]]]:
    """The roots, and all nodes by depth."""
    roots = [HierarchyNode(j) for j in range(min(config.total_root_nodes, num_features))]
    levels, dealt = [roots], len(roots)
    for _ in range(config.max_depth):
        if not levels[-1]:
            break
        level: list[HierarchyNode] = []
        for parent in levels[-1]:
            wanted = config.branching_factor
            if isinstance(wanted, tuple):
                # Drawn also where no features are left: what is drawn later depends on it.
                wanted = chance.randint(*wanted)
            end = min(dealt + wanted, num_features)
            parent.children = [HierarchyNode(j) for j in range(dealt, end)]
            parent.scale_children_by_parent = config.scale_children_by_parent
            level.extend(parent.children)
            dealt = end
        levels.append(level)
    return roots, levels


def _eligible(
    levels: Sequence[Sequence[HierarchyNode]], config: HierarchyConfig
) -> Iterator[HierarchyNode]:
    last = config.mutually_exclusive_max_depth
    end = len(levels) if last is None else last + 1
    for level in levels[config.mutually_exclusive_min_depth : end]:
        yield from (node for node in level if len(node.children) > 1)
