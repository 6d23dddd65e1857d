"""One orthogonalization step at the standard size, with the normalisations around it.

python -m pytest benchmarks/test_bench_orthogonalization.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from harness import checks

from synthkern import orthogonalize_embeddings

LR = 3e-4


def test_orthogonalization_step(benchmark: Any) -> None:
    chance = torch.Generator().manual_seed(0)
    small = torch.randn(512, 64, generator=chance)
    checks.objective_is_the_same(
        small,
        orthogonalize_embeddings(small, 20, LR),
        checks.plainly_orthogonalized(small, 20, LR),
        1e-4,
    )
    start = torch.randn(16384, 768, generator=chance)
    step = partial(orthogonalize_embeddings, start, 1, LR)
    before = checks.objective(torch.nn.functional.normalize(start, dim=1))
    assert checks.objective(step()) < before
    benchmark.pedantic(step, rounds=5)
