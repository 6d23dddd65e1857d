"""Nodes of trees."""

from synthkern.world.hierarchy import (
    HierarchyNode as HierarchyNode,
    validate_hierarchy as validate_hierarchy,
)
