"""Triton's selections where they go other ways: rows too long for a program, and many tiles."""

from __future__ import annotations

import pytest
import torch

from synthkern.engine import reference
from synthkern.engine.triton import BACKEND, select
from synthkern.sparse import SparseActivations

FOUND, WANTED = BACKEND, reference.BACKEND

#: (B, M, tile): rows of several tiles, whole ones and not, and more tiles than programs.
SHAPES = [(1, 1, 128), (2, 400, 128), (9, 130, 128), (2, 2500, 2048)]


def numbers(b: int, m: int) -> torch.Tensor:
    """A few equal ones of every number, some of them infinite and some NaN."""
    generator = torch.Generator().manual_seed(b + m)
    pre = (torch.randn(b, m, generator=generator) * 4).round() / 4
    pre[torch.rand(b, m, generator=generator) < 0.01] = torch.inf
    pre[torch.rand(b, m, generator=generator) < 0.01] = -torch.inf
    pre[torch.rand(b, m, generator=generator) < 0.01] = torch.nan
    return pre


def assert_same(found: SparseActivations, wanted: SparseActivations) -> None:
    assert torch.equal(found.offsets, wanted.offsets)
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(found.values.view(torch.int32), wanted.values.view(torch.int32))


@pytest.fixture(params=SHAPES, ids=str)
def pre(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Pre-activations, in tiles that are cut for them."""
    *shape, tile = request.param
    monkeypatch.setattr(select, "_KEPT_TILE", tile)
    monkeypatch.setattr(select, "_DIGITS_TILE", tile)
    return numbers(*shape)


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("positive", [True, False])
def test_rows_that_fit_no_program(
    pre: torch.Tensor, positive: bool, magnitude: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "MOST", 0)
    m = pre.shape[1]
    for k in {m // 3 + 1, m}:
        wanted = WANTED.select_topk(pre, None, k, positive, magnitude)
        assert_same(FOUND.select_topk(pre, None, k, positive, magnitude), wanted)


@pytest.mark.parametrize("positive", [True, False])
def test_batches_of_many_tiles(pre: torch.Tensor, positive: bool) -> None:
    scale = torch.arange(pre.shape[1]) % 2 + 0.5
    for count in {1, pre.numel() // 3 + 1, pre.numel()}:
        wanted = WANTED.select_batch_topk(pre, scale, count, positive)
        assert_same(FOUND.select_batch_topk(pre, scale, count, positive), wanted)


def test_rows_of_one_program_are_written_tile_by_tile(pre: torch.Tensor) -> None:
    k = pre.shape[1] // 3 + 1
    assert_same(FOUND.select_topk(pre, None, k, False), WANTED.select_topk(pre, None, k, False))


def test_ties_end_in_the_middle_of_a_row_of_the_batch() -> None:
    pre = torch.ones(4, 5)
    pre[2] = 2
    found = FOUND.select_batch_topk(pre, None, 12, True)
    assert found.offsets.tolist() == [0, 5, 7, 12, 12]
    assert found.indices.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4]
