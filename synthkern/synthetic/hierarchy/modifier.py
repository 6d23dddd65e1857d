"""A hierarchy as something that is applied to activations."""

from synthkern.model.activation_generator import ActivationGenerator as ActivationGenerator
from synthkern.model.hierarchy_modifier import hierarchy_modifier as hierarchy_modifier
from synthkern.world.hierarchy import (
    HierarchyNode as HierarchyNode,
    validate_hierarchy as validate_hierarchy,
)
