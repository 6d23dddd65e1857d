"""Trees with their modifier, and random ones."""

from synthkern.model.hierarchy import (
    Hierarchy,
    generate_hierarchy,
)
from synthkern.model.hierarchy_modifier import hierarchy_modifier
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
