"""Sampling a world: with hidden activations, and features alone.

    python -m pytest benchmarks/test_bench_sampler.py

An item is a batch of 1,024 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import checks, worlds

from synthkern import SyntheticModel

BATCH = 1024
BATCHES = 8

#: A full correlation matrix of 16,384 features costs 134 million products a sample: not here.
WORLDS = [
    pytest.param("synth-sae-bench-1k", "independent", id="1k-independent"),
    pytest.param("synth-sae-bench-1k", "low-rank", id="1k-low-rank"),
    pytest.param("synth-sae-bench-1k", "full", id="1k-full"),
    pytest.param("synth-sae-bench-16k", "independent", id="16k-independent"),
    pytest.param("synth-sae-bench-16k", "low-rank", id="16k-low-rank"),
]


@pytest.mark.parametrize(("preset", "copula"), WORLDS)
@pytest.mark.parametrize("method", ["sample", "sample_sparse"])
def test_sampler(
    benchmark: Any,
    world_of: Callable[[str], SyntheticModel],
    preset: str,
    copula: str,
    method: str,
) -> None:
    world = worlds.with_copula(world_of(preset), copula)
    checks.samples_are_the_references(world, 4)
    checks.hidden_is_the_bare_gather(world, BATCH)
    benchmark.group = f"{method}({BATCH})"
    benchmark.extra_info["samples"] = BATCH
    benchmark(worlds.in_turn(worlds.successive(getattr(world, method), BATCH, BATCHES)))
