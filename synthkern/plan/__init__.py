"""Plans: a world compiled into flat, immutable arrays, everything that a kernel reads."""

from synthkern.plan.compile import Correlation, compile_plan
from synthkern.plan.forest import Forest, compile_forest
from synthkern.plan.largest import check_scaling_means, largest_values
from synthkern.plan.magnitudes import Magnitudes
from synthkern.plan.plan import Plan

__all__ = [
    "Correlation",
    "Forest",
    "Magnitudes",
    "Plan",
    "check_scaling_means",
    "compile_forest",
    "compile_plan",
    "largest_values",
]
