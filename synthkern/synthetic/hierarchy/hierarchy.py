"""Trees with their modifier, and random ones."""

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
    "Hierarchy",
    "HierarchyConfig",
    "HierarchyNode",
    "generate_hierarchy",
    "hierarchy_modifier",
]
