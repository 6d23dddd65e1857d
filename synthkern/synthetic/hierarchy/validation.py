"""What is no forest."""

from synthkern.world.hierarchy import validate_hierarchy as validate_hierarchy
