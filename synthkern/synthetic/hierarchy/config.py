"""The recipe of a random forest."""

from synthkern.world.hierarchy import HierarchyConfig

__all__ = [
    "HierarchyConfig",
]
