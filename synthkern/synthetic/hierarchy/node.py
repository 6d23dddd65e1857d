"""Nodes of trees."""

from synthkern.world.hierarchy import (
    HierarchyNode,
)
from synthkern.world.hierarchy import (
    validate_forest as validate_hierarchy,
)

__all__ = [
    "HierarchyNode",
    "validate_hierarchy",
]
