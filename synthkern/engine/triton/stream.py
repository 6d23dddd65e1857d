"""The stream's words and normals as device functions; its definition is in synthkern.stream.

Words are uint32. A sample's index is given by its two halves. Every kernel must be launched with
:data:`synthkern.engine.triton.launch.EXACT`, without which the compiler may contract a product
and a sum into one rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.stream import words

FACTOR = tl.constexpr(words.FACTOR)
COARSE = tl.constexpr(words.COARSE)
FEATURE = tl.constexpr(words.FEATURE)
MAGNITUDE = tl.constexpr(words.MAGNITUDE)
SCHEDULE = tl.constexpr(words.SCHEDULE)
FACTOR_SCHEDULE = tl.constexpr(words.FACTOR_SCHEDULE)
EXCLUSION = tl.constexpr(words.EXCLUSION)


@triton.jit
def block(purpose, element, low, high, key_low, key_high):
    """Four words of Philox4x32-10; all arguments are uint32 and broadcast together."""
    c0 = element + tl.zeros_like(low)
    c1 = tl.zeros_like(c0) + purpose
    c2 = tl.zeros_like(c0) + low
    c3 = tl.zeros_like(c0) + high
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, 0xD2511F53)
        high1 = tl.umulhi(c2, 0xCD9E8D57)
        low0 = c0 * 0xD2511F53
        low1 = c2 * 0xCD9E8D57
        c0 = high1 ^ c1 ^ key_low
        c1 = low1
        c2 = high0 ^ c3 ^ key_high
        c3 = low0
        key_low += 0x9E3779B9
        key_high += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def seed_of(position):
    """Both halves of the seed. position: [2] int64, the seed and the first sample's index."""
    return halves(tl.load(position).to(tl.uint64))


@triton.jit
def index_of(position, sample):
    """Both halves of the indices of samples of a batch; they wrap at 2**64."""
    return halves(tl.load(position + 1).to(tl.uint64) + sample.to(tl.uint64))


@triton.jit
def halves(index):
    """Low and high word of uint64 numbers."""
    return (index & 0xFFFFFFFF).to(tl.uint32), (index >> 32).to(tl.uint32)


@triton.jit
def four_of(table, row):
    """The four numbers of rows [L]. table: [rows, 4] of any type, in one load a lane."""
    fours = tl.load(table + row.to(tl.int64)[:, None] * 4 + tl.arange(0, 4)[None, :])
    even, odd = tl.split(tl.reshape(fours, (row.shape[0], 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def coarse_byte(feature, low, high, key_low, key_high):
    """The first byte of features' firing words, uint32."""
    j = feature.to(tl.uint32)
    w0, w1, w2, w3 = block(COARSE, j // 16, low, high, key_low, key_high)
    quarter = (j // 4) % 4
    word = tl.where(quarter < 2, tl.where(quarter == 0, w0, w1), tl.where(quarter == 2, w2, w3))
    return (word >> (8 * (j % 4))) & 0xFF


@triton.jit
def normal(word, table):
    """Standard normals of words [L]. table: [513, 4] float32, the cubics' coefficients."""
    negative = word < 0x80000000
    distance = tl.where(negative, word, ~word).to(tl.int32)
    place = distance.to(tl.float32) + 0.5
    bits = place.to(tl.uint32, bitcast=True)
    segment = ((bits - 0x3F000000) >> 19).to(tl.int32)
    c0, c1, c2, c3 = four_of(table, segment)
    z = ((bits & 0x7FFFF) | 0x3F800000).to(tl.float32, bitcast=True) - 1.0
    x = ((c3 * z + c2) * z + c1) * z + c0
    return tl.where(negative, -x, x)


@triton.jit
def ones(word):
    """Number of bits set in words."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return ((word * 0x01010101) >> 24).to(tl.int32)
