"""The hierarchy modifier on given activations of the standard world's 10,880 nodes.

    python -m pytest benchmarks/test_bench_hierarchy.py

An item is a batch of 1,024 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from harness import checks, worlds

from synthkern import SyntheticModel

BATCH = 1024
PRESET = "synth-sae-bench-16k"


@pytest.mark.parametrize("layout", ["dense", "coo", "csr"])
def test_hierarchy_modifier(
    benchmark: Any, world_of: Callable[[str], SyntheticModel], layout: str
) -> None:
    world = world_of(PRESET)
    generator, hierarchy = world.activation_generator, world.hierarchy
    assert hierarchy is not None
    assert hierarchy.modifier is not None
    entries = worlds.without_hierarchy(world).sample_sparse(BATCH, seed=worlds.SEED)
    given = {
        "dense": entries.to_dense,
        "coo": entries.to_sparse_coo,
        "csr": lambda: entries,
    }[layout]()
    apply = partial(hierarchy.modifier, given, generator, seed=worlds.SEED)
    after = apply() if layout == "dense" else apply().to_dense()
    checks.forest_was_applied(
        hierarchy, entries.to_dense(), after, generator.mean_firing_magnitudes
    )
    benchmark.group = f"hierarchy_modifier, {BATCH} samples"
    benchmark.extra_info["active_per_sample"] = entries.nnz / BATCH
    benchmark(apply)
