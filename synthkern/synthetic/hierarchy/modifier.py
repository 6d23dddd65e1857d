"""A hierarchy as something that is applied to activations."""

from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.hierarchy_modifier import hierarchy_modifier
from synthkern.world.hierarchy import (
    HierarchyNode,
)
from synthkern.world.hierarchy import (
    validate_forest as validate_hierarchy,
)

__all__ = [
    "ActivationGenerator",
    "HierarchyNode",
    "hierarchy_modifier",
    "validate_hierarchy",
]
