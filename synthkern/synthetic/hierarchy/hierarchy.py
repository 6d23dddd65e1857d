"""Trees with their modifier, and random ones."""

from synthkern.model.hierarchy import (
    Hierarchy as Hierarchy,
    generate_hierarchy as generate_hierarchy,
)
from synthkern.model.hierarchy_modifier import hierarchy_modifier as hierarchy_modifier
from synthkern.world.hierarchy import (
    HierarchyConfig as HierarchyConfig,
    HierarchyNode as HierarchyNode,
)
