"""Hierarchies of features."""

from synthkern.model.activation_generator import ActivationsModifier
from synthkern.model.hierarchy import Hierarchy, generate_hierarchy
from synthkern.model.hierarchy_modifier import hierarchy_modifier
from synthkern.world.hierarchy import HierarchyConfig, HierarchyNode

__all__ = [
    "ActivationsModifier",
    "Hierarchy",
    "HierarchyConfig",
    "HierarchyNode",
    "generate_hierarchy",
    "hierarchy_modifier",
]
