"""What happens to the nodes of one level, as device functions that dense rows and lists share.

All of them work on a tile [S, T] of nodes of S samples: ``node``, the node; ``at``, a pointer to
its value; ``here``, where there is such a node at this level. A level takes :func:`settle`, and
where that found members of exclusive groups above zero, :func:`lead` and :func:`lose`, each for
all tiles of the level and with a barrier after it.

A group's contest is held in two slots of memory that is the program's own: ``best``, the largest
priority (uint64, 0 between levels), and ``first``, which tells the lowest node that has it
(int64, never reset: a later sample's numbers are above those of all before).
"""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.engine.triton.stream import block


@triton.jit
def settle(
    at, gate_at, gated, node, here, row, low, high, key_low, key_high, purpose,
    feature,  # [K] int32
    gate,  # [K] int32
    flags,  # [K] int32, 2 * group + scaled
    means,  # [N] float32
    best,  # [rows, groups] uint64
    num_groups,
    SCALES: tl.constexpr,
    GROUPS: tl.constexpr,
):  # fmt: skip
    """Gates and scales nodes in place and enters those above zero into their groups' contests.

    ``gate_at`` are pointers to the gates' values, read where ``gated``; ``row`` [S, 1] the rows
    of ``best``. Gives whether there are any such members.
    """
    contested = 0
    value = tl.load(at, mask=here, other=0.0)
    # -0 is looked at too: it becomes 0 below a gate that is not above zero.
    live = here & (_bits(value) != 0)
    if tl.max(live.to(tl.int32)) != 0:
        gate_value = tl.load(gate_at, mask=live & gated, other=1.0)
        its_flags = tl.load(flags + node, mask=live, other=-2)
        if SCALES:
            grows = live & (value != 0) & ((its_flags & 1) != 0)
            gate_feature = tl.load(gate + node, mask=grows, other=0)
            mean = tl.load(means + gate_feature, mask=grows, other=1.0)
            value = tl.where(grows, value * _quotient(gate_value, mean.to(value.dtype)), value)
        value = tl.where(gate_value > 0, value, 0.0)
        tl.store(at, value, mask=live & gated)
        if GROUPS:
            active = live & (its_flags >= 0) & (value > 0)
            contested = tl.max(active.to(tl.int32))
            if contested != 0:
                priority = _priority(
                    feature, node, active, low, high, key_low, key_high, purpose
                )  # fmt: skip
                tl.atomic_max(
                    best + row * num_groups + (its_flags >> 1),
                    priority,
                    mask=active,
                    sem="relaxed",
                    scope="cta",
                )
    return contested


@triton.jit
def lead(
    at, node, here, row, turn, low, high, key_low, key_high, purpose,
    feature,  # [K] int32
    flags,  # [K] int32, 2 * group + scaled
    best,  # [rows, groups] uint64
    first,  # [rows, groups] int64
    num_groups,
):  # fmt: skip
    """Enters the nodes that have their group's best priority into ``first``."""
    number, active = _contenders(at, node, here, flags)
    if tl.max(active.to(tl.int32)) != 0:
        priority = _priority(feature, node, active, low, high, key_low, key_high, purpose)
        slot = row * num_groups + number
        # Volatile: what atomic operations wrote is read where they wrote it.
        leads = active & (tl.load(best + slot, mask=active, other=0, volatile=True) == priority)
        tl.atomic_max(first + slot, _claim(turn, node), mask=leads, sem="relaxed", scope="cta")


@triton.jit
def lose(
    at, node, here, row, turn,
    flags,  # [K] int32, 2 * group + scaled
    best,  # [rows, groups] uint64
    first,  # [rows, groups] int64
    num_groups,
):  # fmt: skip
    """Zeroes the members above zero that did not win; the winner clears ``best``."""
    number, active = _contenders(at, node, here, flags)
    slot = row * num_groups + number
    winner = tl.load(first + slot, mask=active, other=0, volatile=True)
    wins = active & (winner == _claim(turn, node))
    tl.store(at, tl.zeros(active.shape, at.dtype.element_ty), mask=active & (wins == 0))
    tl.store(best + slot, tl.zeros(active.shape, tl.uint64), mask=wins)


@triton.jit
def _contenders(at, node, here, flags):
    """The groups of nodes, and which of them are above zero in one."""
    value = tl.load(at, mask=here, other=0.0)
    number = tl.load(flags + node, mask=here & (value > 0), other=-2) >> 1
    return number, number >= 0


@triton.jit
def _priority(feature, node, active, low, high, key_low, key_high, purpose):
    """Priorities of nodes, uint64."""
    element = tl.load(feature + node, mask=active, other=0).to(tl.uint32)
    w0, w1, _, _ = block(purpose, element, low, high, key_low, key_high)
    return (w0.to(tl.uint64) << 32) | w1.to(tl.uint64)


@triton.jit
def _claim(turn, node):
    """A number that is the greater the later the turn, and the lower the node within it."""
    return ((turn + 1) << 32) - node


@triton.jit
def _quotient(a, b):
    """a / b, rounded to nearest."""
    if a.dtype == tl.float64:  # noqa: SIM108
        ratio = a / b
    else:
        ratio = tl.math.div_rn(a, b)
    return ratio


@triton.jit
def _bits(value):
    if value.dtype == tl.float64:
        bits = value.to(tl.int64, bitcast=True)
    else:
        bits = value.to(tl.int32, bitcast=True)
    return bits
