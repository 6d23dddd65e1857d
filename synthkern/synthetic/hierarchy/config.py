"""The recipe of a random forest."""

from synthkern.world.hierarchy import HierarchyConfig as HierarchyConfig
