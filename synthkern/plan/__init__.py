"""Plans: a world compiled into flat, immutable arrays, everything that a kernel reads."""

from synthkern.plan.forest import Forest
from synthkern.plan.plan import Plan

__all__ = ["Forest", "Plan"]
