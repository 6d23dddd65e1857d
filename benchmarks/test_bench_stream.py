"""The stream's words and normals in plain PyTorch: what the reference backend is made of.

    python -m pytest benchmarks/test_bench_stream.py

The C++ core's are not to be called alone: sampling shows them.
"""

from __future__ import annotations

from typing import Any

import torch

from synthkern.stream import normal, philox4x32

COUNT = 2**18


def test_philox(benchmark: Any) -> None:
    # A known answer of Random123.
    ones = torch.tensor([0xFFFFFFFF])
    words = philox4x32((ones, ones, ones, ones), (0xFFFFFFFF, 0xFFFFFFFF))
    assert [int(w) for w in words] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    zero = torch.zeros(1, dtype=torch.int64)
    counter = (torch.arange(COUNT), zero, zero, zero)
    benchmark.extra_info["blocks"] = COUNT
    benchmark(philox4x32, counter, (0, 0))


def test_normal(benchmark: Any) -> None:
    chance = torch.Generator().manual_seed(0)
    words = torch.randint(2**32, (COUNT,), generator=chance)
    exact = torch.special.ndtri((words.double() + 0.5) / 2**32)
    torch.testing.assert_close(normal(words).double(), exact, rtol=0, atol=1e-6)
    benchmark.extra_info["normals"] = COUNT
    benchmark(normal, words)
