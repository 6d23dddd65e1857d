"""Benchmark suites: many worlds, SAEs, L0s and seeds in one directory of results."""

from synthkern.suite.local import LocalExecutor
from synthkern.suite.ray_executor import RayExecutor
from synthkern.suite.suite import Suite, SuiteSAE, load_suite
from synthkern.suite.supervisor import run_suite

__all__ = ["LocalExecutor", "RayExecutor", "Suite", "SuiteSAE", "load_suite", "run_suite"]
