"""The words of the stream and what is made of them: see the package's docstring."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from synthkern import _core
from synthkern._checks import as_int, as_seed
from synthkern.stream.philox import philox4x32

FACTOR, COARSE, FEATURE, EXCLUSION = 0, 1, 2, 16
SCHEDULE, PHASE, MAGNITUDE = 3, 4, 5
NOISE, NOISE_FACTOR = 6, 7

#: Features are elements of SCHEDULE from 0 on, two an element, and factors from here on.
FACTOR_SCHEDULE = 2**31

_MASK = 0xFFFFFFFF
_BITS_OF_HALF = 0x3F000000
_BITS_OF_ONE = 0x3F800000

Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def fresh_seed() -> int:
    """A seed drawn from torch's global generator, so that torch.manual_seed reproduces it."""
    low, high = torch.randint(0, 2**32, (2,), device="cpu").tolist()
    return int(high << 32 | low)


def stream_position(seed: int | None, start: int) -> tuple[int, int]:
    """The seed, a fresh one where None, and the index of the first sample; both checked."""
    start = as_int("start", start, low=0, high=2**64 - 1)
    return (fresh_seed() if seed is None else as_seed("seed", seed)), start


def sample_indices(start: int, batch_size: int, device: torch.device) -> torch.Tensor:
    """The indices start ... start + batch_size - 1 modulo 2**64: [B, 2], low and high word."""
    offset = torch.arange(batch_size, device=device)
    low = (start & _MASK) + offset
    high = ((start >> 32) + (low >> 32)) & _MASK
    return torch.stack([low & _MASK, high], dim=1)


def block(purpose: int, element: torch.Tensor, index: torch.Tensor, seed: int) -> Words:
    """The four words [B, E] of elements [E] for samples [B, 2], or [B, E, 2]: each element's."""
    low, high = (index if index.dim() == 3 else index.unsqueeze(1)).unbind(2)
    elements = element.long().unsqueeze(0)
    counter = (elements, torch.full_like(elements, purpose), low, high)
    return philox4x32(counter, (seed & _MASK, seed >> 32))


def factor_normals(rank: int, index: torch.Tensor, seed: int) -> torch.Tensor:
    """Standard normals [B, rank] of a sample's factors."""
    return numbered_normals(FACTOR, rank, index, seed)


def numbered_normals(purpose: int, count: int, index: torch.Tensor, seed: int) -> torch.Tensor:
    """Standard normals [B, count] of a purpose, four to a block, for samples [B, 2]."""
    words = block(purpose, torch.arange((count + 3) // 4, device=index.device), index, seed)
    return normal(torch.stack(words, dim=2).flatten(1)[:, :count])


def coarse_bytes(num_features: int, index: torch.Tensor, seed: int) -> torch.Tensor:
    """The first byte [B, N] of every feature's firing word."""
    blocks = torch.arange((num_features + 15) // 16, device=index.device)
    words = torch.stack(block(COARSE, blocks, index, seed), dim=2).unsqueeze(3)
    shifts = torch.arange(0, 32, 8, device=index.device)
    return ((words >> shifts) & 0xFF).flatten(1)[:, :num_features]


def held_factor_normals(index: torch.Tensor, seed: int) -> torch.Tensor:
    """Standard normals [B, rank] of factors that are held: of the samples [B, rank, 2]."""
    k = torch.arange(index.shape[1], device=index.device)
    words = torch.stack(block(FACTOR, k // 4, index, seed), dim=2)
    return normal(words.gather(2, (k % 4).expand(words.shape[:2]).unsqueeze(2)).squeeze(2))


def held_coarse_bytes(index: torch.Tensor, seed: int) -> torch.Tensor:
    """The first byte [B, N] of features' firing words that are held: of the samples [B, N, 2]."""
    j = torch.arange(index.shape[1], device=index.device)
    words = torch.stack(block(COARSE, j // 16, index, seed), dim=2)
    word = words.gather(2, (j % 16 // 4).expand(words.shape[:2]).unsqueeze(2)).squeeze(2)
    return (word >> (8 * (j % 4))) & 0xFF


def schedule_words(
    first: int, count: int, sequence: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two words [B, count] of the schedule of features, or factors with ``first`` =
    FACTOR_SCHEDULE, in sequences [B, 2].
    """
    pairs = torch.arange((count + 1) // 2, device=sequence.device)
    words = torch.stack(block(SCHEDULE, first + pairs, sequence, seed), dim=2)
    two = words.view(words.shape[0], -1, 2)[:, :count]
    return two[..., 0], two[..., 1]


def sequence_position(index: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences [B, 2] of samples [B, 2], and their positions [B] in them; length < 2**31."""
    low, high = index.unbind(1)
    rest = (high % length) << 32 | low
    return torch.stack([rest // length, high // length], dim=1), rest % length


def feature_words(features: torch.Tensor, index: torch.Tensor, seed: int) -> Words:
    """The four words [B, E] of features [E]."""
    return block(FEATURE, features, index, seed)


def priority_words(
    features: torch.Tensor, index: torch.Tensor, seed: int, ordinal: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word [B, E] of the priorities of features [E] in forest number ordinal."""
    high, low, _, _ = block(EXCLUSION + ordinal, features, index, seed)
    return high, low


def phase_words(
    leaders: torch.Tensor, circles: int, index: torch.Tensor, seed: int
) -> torch.Tensor:
    """The words [B, M, circles] of the phases of manifolds with leaders [M]."""
    words = [
        word
        for first in range((circles + 3) // 4)
        for word in block(PHASE, leaders + first, index, seed)
    ]
    return torch.stack(words[:circles], dim=2)


def normal(word: torch.Tensor) -> torch.Tensor:
    """Standard normals, float32, of 32-bit words in an int64 tensor of any shape."""
    negative = word < 2**31
    distance = torch.where(negative, word, _MASK - word)
    place = distance.to(torch.float32) + 0.5
    bits = place.view(torch.int32)
    c0, c1, c2, c3 = normal_table(word.device)[:, ((bits - _BITS_OF_HALF) >> 19).long()]
    z = ((bits & 0x7FFFF) | _BITS_OF_ONE).view(torch.float32) - 1.0
    x = ((c3 * z + c2) * z + c1) * z + c0
    return torch.where(negative, -x, x)


def share_of_words(holds: Callable[[torch.Tensor], torch.Tensor], size: int) -> torch.Tensor:
    """The share [size], float64, of all words for which something holds that grows with them.

    Args:
        holds: whether it does, bool [size], of words [size]; once it holds, for greater words too.
        size: number of cases.
    """
    least = torch.zeros(size, dtype=torch.int64, device="cpu")  # the first word for which it holds
    for bit in reversed(range(32)):
        below = least + 2**bit - 1
        least = torch.where(holds(below), least, below + 1)
    return 1 - (least + (~holds(least.clamp(max=_MASK))).long()).double() / 2.0**32


@functools.cache
def normal_table(device: torch.device) -> torch.Tensor:
    """The cubics' coefficients, float32 [4, 513], constant first."""
    table: torch.Tensor = torch.from_numpy(_core.normal_table()).T.contiguous().to(device)
    return table
