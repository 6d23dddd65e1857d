"""What is no forest."""

from synthkern.world.hierarchy import validate_forest as validate_hierarchy

__all__ = [
    "validate_hierarchy",
]
