"""Hierarchies of features."""

from synthkern.activation_generator import ActivationsModifier
from synthkern.hierarchy import (
    Hierarchy,
    generate_hierarchy,
)
from synthkern.hierarchy_modifier import hierarchy_modifier
from synthkern.world.hierarchy import (
    HierarchyConfig,
    HierarchyNode,
)

__all__ = [
    "ActivationsModifier",
    "Hierarchy",
    "HierarchyConfig",
    "HierarchyNode",
    "generate_hierarchy",
    "hierarchy_modifier",
]
