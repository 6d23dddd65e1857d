"""Plans: a world compiled into flat, immutable arrays, everything that a kernel reads."""

from synthkern.plan.compile import (
    Correlation,
    check_range,
    check_scaling,
    check_scaling_means,
    compile_plan,
)
from synthkern.plan.forest import Forest, compile_forest
from synthkern.plan.plan import Plan

__all__ = [
    "Correlation",
    "Forest",
    "Plan",
    "check_range",
    "check_scaling",
    "check_scaling_means",
    "compile_forest",
    "compile_plan",
]
