"""Benchmark suites: many worlds, SAEs, L0s and seeds in one directory of results."""
