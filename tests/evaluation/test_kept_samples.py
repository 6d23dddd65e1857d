"""Samples that are kept: which they are, and how many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthkern import SparseActivations
from synthkern.evaluation import kept_samples
from synthkern.evaluation.calculator import Groups
from synthkern.evaluation.kept_samples import KeptSamples


def drawn(samples: int, width: int) -> torch.Tensor:
    values = torch.randn(samples, width)
    return values * (torch.rand(samples, width) < 0.4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_first_of_each_group(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "_SAMPLES", 9)
    a, b = drawn(14, 5).to(dtype), drawn(14, 3).to(dtype)
    kept = KeptSamples(3, 5, 3)
    for begin, sizes, first in ((0, [2], 0), (2, [4, 2], 0), (8, [1, 5], 1)):
        part = slice(begin, begin + sum(sizes))
        both = (SparseActivations.from_dense(x[part]) for x in (a, b))
        kept.add(Groups(sizes, first), *both)
    # Groups begin at 0, 6 and 9.
    for group, rows in enumerate(([0, 1, 2], [6, 7, 8], [9, 10, 11])):
        assert kept.sizes([group]) == [3]
        for matrix, whole in zip(kept.matrices([group]), (a, b), strict=True):
            np.testing.assert_array_equal(matrix.toarray(), whole[rows].float())
            assert matrix.dtype == np.float32
    together = kept.matrices([2, 0])[1].toarray()
    np.testing.assert_array_equal(together, b[[9, 10, 11, 0, 1, 2]].float())


def test_none_comes_after_one_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "_ENTRIES", 5)
    x = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    kept = KeptSamples(1, 3)
    for part in x.split(1):
        kept.add(Groups([1]), SparseActivations.from_dense(part))
    assert kept.sizes([0]) == [2]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_how_many_fit_does_not_depend_on_how_they_come(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In turn one kind has many entries and the other few.
    monkeypatch.setattr(kept_samples, "_ENTRIES", 8)
    a = torch.ones(6, 3) * torch.tensor([3, 0, 3, 0, 3, 0])[:, None]
    b = torch.ones(6, 3) * torch.tensor([0, 3, 0, 3, 0, 3])[:, None]
    kept = KeptSamples(1, 3, 3)
    for parts in zip(a.split(size), b.split(size), strict=True):
        kept.add(Groups([len(parts[0])]), *(SparseActivations.from_dense(x) for x in parts))
    assert kept.sizes([0]) == [4]


def test_nothing_kept() -> None:
    kept = KeptSamples(2, 4)
    kept.add(Groups([0], 1), SparseActivations.from_dense(torch.zeros(0, 4)))
    (matrix,) = kept.matrices([0, 1])
    assert matrix.shape == (0, 4)
    assert kept.sizes([0, 1]) == [0, 0]
