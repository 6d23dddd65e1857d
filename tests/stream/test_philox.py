"""Philox4x32-10 in C++ and in PyTorch against the known answers of Random123."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthkern import _core
from synthkern.stream import (
    COARSE,
    EXCLUSION,
    FEATURE,
    coarse_bytes,
    feature_words,
    philox4x32,
    priority_words,
)
from synthkern.stream.words import sample_indices


def _vectors() -> list[list[int]]:
    lines = (Path(__file__).parent / "philox_kat.txt").read_text().splitlines()
    return [[int(word, 16) for word in line.split()] for line in lines if line[0] != "#"]


VECTORS = _vectors()


def _tensors(words: list[int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([word]) for word in words)


def test_all_known_answers_are_read() -> None:
    assert [len(vector) for vector in VECTORS] == [10, 10, 10]


@pytest.mark.parametrize("vector", VECTORS)
def test_core_gives_the_known_answer(vector: list[int]) -> None:
    assert _core.philox4x32(vector[:4], vector[4:6]) == vector[6:]


@pytest.mark.parametrize("vector", VECTORS)
def test_torch_gives_the_known_answer(vector: list[int]) -> None:
    out = philox4x32(_tensors(vector[:4]), (vector[4], vector[5]))
    assert [int(word) for word in out] == vector[6:]


def test_torch_takes_all_known_counters_of_one_key_at_once_and_broadcasts() -> None:
    counters = torch.tensor([vector[:4] for vector in VECTORS])
    low, high = counters[:, None, 0], counters[None, :, 1]
    words = philox4x32((low, high, torch.tensor(5), torch.tensor(2**32 - 1)), (7, 2**32 - 1))
    for i, first in enumerate(counters[:, 0].tolist()):
        for j, second in enumerate(counters[:, 1].tolist()):
            expected = _core.philox4x32([first, second, 5, 2**32 - 1], [7, 2**32 - 1])
            assert [int(word[i, j]) for word in words] == expected


def test_torch_equals_core_on_random_blocks() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 2**32, (2000, 6), dtype=np.int64)
    # Words whose halves carry: the product is made of 16-bit parts.
    blocks[:500] = np.where(blocks[:500] % 2, 2**32 - 1 - blocks[:500] % 3, 0x0000FFFF)
    for block in blocks.tolist():
        out = philox4x32(_tensors(block[:4]), (block[4], block[5]))
        assert [int(word) for word in out] == _core.philox4x32(block[:4], block[4:])


@pytest.mark.parametrize("rounds", [0, 1])
def test_rounds_are_counted(rounds: int) -> None:
    # One round by hand: counter (1, 0, 0, 0) times 0xD2511F53 is (0, 0xD2511F53) as two words.
    expected = [[1, 0, 0, 0], [0 ^ 5, 0, 0 ^ 6, 0xD2511F53]][rounds]
    out = philox4x32(_tensors([1, 0, 0, 0]), (5, 6), rounds=rounds)
    assert [int(word) for word in out] == expected


def test_core_checks_its_words() -> None:
    with pytest.raises(TypeError):
        _core.philox4x32([2**32, 0, 0, 0], [0, 0])
    with pytest.raises(TypeError):
        _core.philox4x32([0, 0, 0], [0, 0])


SEED = 0xFEDCBA9876543210
START = 2**64 - 2  # two samples before the index wraps


def _block(purpose: int, element: int, sample: int) -> list[int]:
    """A block of the stream as its definition writes it."""
    index = (START + sample) % 2**64
    counter = [element, purpose, index % 2**32, index // 2**32]
    return _core.philox4x32(counter, [SEED % 2**32, SEED // 2**32])


def test_feature_and_priority_words_are_blocks_of_the_stream() -> None:
    features = torch.tensor([0, 3, 2**31 - 1])
    index = sample_indices(START, 4, torch.device("cpu"))
    own = feature_words(features, index, SEED)
    priority = priority_words(features, index, SEED, ordinal=2)
    for b in range(4):
        for k, feature in enumerate(features.tolist()):
            assert [int(word[b, k]) for word in own] == _block(FEATURE, feature, b)
            expected = _block(EXCLUSION + 2, feature, b)[:2]
            assert [int(word[b, k]) for word in priority] == expected


def test_coarse_bytes_are_the_bytes_of_shared_blocks() -> None:
    index = sample_indices(START, 4, torch.device("cpu"))
    got = coarse_bytes(35, index, SEED)
    assert got.shape == (4, 35)
    for b in range(4):
        for j in range(35):
            word = _block(COARSE, j // 16, b)[(j % 16) // 4]
            assert int(got[b, j]) == (word >> (8 * (j % 4))) % 256
