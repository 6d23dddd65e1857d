"""Fixtures and records of the benchmarks that pytest-benchmark runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from harness import hardware, worlds

from synthkern import SyntheticModel


@pytest.fixture(scope="session")
def world_of() -> Callable[[str], SyntheticModel]:
    """The world of a preset, built once."""
    return cache(worlds.build)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    """Record the same facts as compare.py in what ``--benchmark-json`` writes."""
    machine_info["synthkern"] = hardware.describe()
