"""Held indices along sequences: where words that persist were drawn, each looked up by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.stream import SCHEDULE, block, halves
from synthkern.plan import Plan


@triton.jit
def held_index(
    element,  # int32: a feature's number or a factor's
    first: tl.constexpr,  # of the schedule's elements
    law,  # int32
    low,
    high,
    key_low,
    key_high,
    laws,  # [M, 3] int32: begin, size, least
    threshold,  # [K] int32: words
    length,
    HELD: tl.constexpr,
):
    """Both halves of the held indices of elements for samples; all of these broadcast together."""
    index = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    sequence = index // length.to(tl.uint64)
    position = (index % length.to(tl.uint64)).to(tl.int32)
    number = element.to(tl.uint32)
    s_low, s_high = halves(sequence)
    w0, w1, w2, w3 = block(SCHEDULE, first + number // 2, s_low, s_high, key_low, key_high)
    odd = number % 2 == 1
    age = _span(tl.where(odd, w2, w0), law, laws, threshold, HELD)
    residual = _span(tl.where(odd, w3, w1), law, laws, threshold, HELD)
    back = tl.minimum(position, (position + age) % (age + residual + 1))
    return halves(index - back.to(tl.uint64))


@triton.jit
def _span(word, law, laws, threshold, HELD: tl.constexpr):
    """The law's least number and of its thresholds, which descend, those not below the word."""
    its = laws + law * 3
    begin = tl.load(its)
    least = tl.load(its + 2)
    count = tl.zeros_like(word).to(tl.int32)
    behind = count + tl.load(its + 1)
    for _ in range(HELD - 1):
        middle = (count + behind) // 2
        some = count < behind
        bound = tl.load(threshold + begin + middle, mask=some, other=0)
        reaches = some & (word <= bound.to(tl.uint32, bitcast=True))
        count = tl.where(reaches, middle + 1, count)
        behind = tl.where(some & ~reaches, middle, behind)
    return least + count


@dataclass(frozen=True)
class Held:
    """The tables of a plan's sequences, on its device; empty where it has none.

    Attributes:
        law_of: [N] int32.
        laws: [M, 3] int32, begin, size and least.
        threshold: [K] int32, bits of words.
        length: T.
        factor_law: of every factor.
        depth: 1 and the steps of a search among a law's thresholds; 0 without sequences. What
            kernels are compiled for.
    """

    law_of: torch.Tensor
    laws: torch.Tensor
    threshold: torch.Tensor
    length: int
    factor_law: int
    depth: int


def held_tables(plan: Plan) -> Held:
    """The tables of a plan."""
    sequence = plan.sequence
    if sequence is None:
        return no_tables(plan.device)
    size = int(sequence.laws[:, 1].max())
    return Held(
        law_of=sequence.law,
        laws=sequence.laws,
        threshold=sequence.packed_threshold(),
        length=sequence.length,
        factor_law=sequence.factor_law,
        depth=1 + size.bit_length(),
    )


def no_tables(device: torch.device) -> Held:
    """The tables of samples that are each by themselves."""
    none = torch.empty(0, dtype=torch.int32, device=device)
    return Held(none, none, none, 1, 0, 0)
