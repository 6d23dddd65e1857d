"""The kernels that apply a forest; what each launch does is in :mod:`.forest`.

The device functions work on a tile [S, T] of nodes of S samples: ``node``, the node; ``at``, a
pointer to its value; ``here``, where there is such a node at this level. A level takes
:func:`gate_and_scale`, and where that found members of exclusive groups above zero, :func:`elect`
and :func:`suppress`, each for all tiles of the level and with a barrier after it.

A group's contest is held in two slots of memory that is the program's own: ``best``, the largest
priority (uint64, 0 between levels), and ``first``, which tells the lowest node that has it (int64,
never reset: a later sample's numbers are above those of all before).
"""

from __future__ import annotations

import triton
import triton.language as tl

from synthkern.engine.triton.stream import EXCLUSION, block, index_of, seed_of

_NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def gate_and_scale(
    at, parent_at, has_parent, node, here, row, low, high, key_low, key_high, purpose,
    feature,  # [K] int32
    parent,  # [K] int32
    flags,  # [K] int32, 2 * group + scaled
    means,  # [N] float32
    best,  # [rows, groups] uint64
    num_groups,
    SCALES: tl.constexpr,
    GROUPS: tl.constexpr,
):  # fmt: skip
    """Gates and scales nodes in place and enters those above zero into their groups' contests.

    ``parent_at`` are pointers to the parents' values, read where ``has_parent``; ``row`` [S, 1] the
    rows of ``best``. Gives whether there are any such members.
    """
    contested = 0
    value = tl.load(at, mask=here, other=0.0)
    # -0 is looked at too: it becomes 0 below a parent that is not above zero.
    live = here & (_bits(value) != 0)
    if tl.max(live.to(tl.int32)) != 0:
        parent_value = tl.load(parent_at, mask=live & has_parent, other=1.0)
        its_flags = tl.load(flags + node, mask=live, other=-2)
        if SCALES:
            grows = live & (value != 0) & ((its_flags & 1) != 0)
            parent_feature = tl.load(parent + node, mask=grows, other=0)
            mean = tl.load(means + parent_feature, mask=grows, other=1.0)
            value = tl.where(grows, value * _quotient(parent_value, mean.to(value.dtype)), value)
        value = tl.where(parent_value > 0, value, 0.0)
        tl.store(at, value, mask=live & has_parent)
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
def elect(
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
        elected = active & (tl.load(best + slot, mask=active, other=0, volatile=True) == priority)
        tl.atomic_max(first + slot, _claim(turn, node), mask=elected, sem="relaxed", scope="cta")


@triton.jit
def suppress(
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


@triton.jit(do_not_specialize=["batch_size", "num_levels", "ordinal", "num_groups"])
def forest_dense_kernel(
    activations,  # [B, N] float32 or float64, in place
    levels,  # [L + 1] int32
    feature,  # [K] int32
    parent,  # [K] int32, features
    flags,  # [K] int32, 2 * group + scaled
    means,  # [N] float32
    position,  # [2] int64: seed, index of the first sample
    best,  # [programs * S, groups] uint64, zero
    first,  # [programs * S, groups] int64, zero
    batch_size,
    num_features,
    num_levels,
    ordinal,
    num_groups,
    SCALES: tl.constexpr,
    GROUPS: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
):
    """One sample after the other, level by level from the top."""
    lane = tl.arange(0, T)[None, :] + tl.zeros([S, 1], tl.int32)
    tile = tl.arange(0, S)[:, None]
    row = (tl.program_id(0) * S + tile).to(tl.int64)
    key_low, key_high = seed_of(position)
    purpose = EXCLUSION + ordinal.to(tl.uint32)
    for base in range(tl.program_id(0) * S, batch_size, tl.num_programs(0) * S):
        sample = (base + tile).to(tl.int64)
        low, high = index_of(position, sample)
        own = activations + sample * num_features
        for level in range(num_levels):
            begin = tl.load(levels + level)
            end = tl.load(levels + level + 1)
            contested = 0
            for start in range(begin, end, T):
                node = start + lane
                here = (node < end) & (sample < batch_size)
                at = own + tl.load(feature + node, mask=here, other=0)
                parent_feature = tl.load(parent + node, mask=here, other=-1)
                contested |= gate_and_scale(
                    at, own + parent_feature, parent_feature >= 0, node, here, row, low, high,
                    key_low, key_high, purpose, feature, parent, flags, means, best, num_groups,
                    SCALES, GROUPS,
                )  # fmt: skip
            tl.debug_barrier()
            # Not in one condition: the first is known when the kernel is compiled.
            if GROUPS:  # noqa: SIM102
                if contested != 0:
                    for suppresses in tl.static_range(2):
                        for start in range(begin, end, T):
                            node = start + lane
                            here = (node < end) & (sample < batch_size)
                            at = own + tl.load(feature + node, mask=here, other=0)
                            if suppresses:
                                suppress(
                                    at, node, here, row, sample, flags, best, first, num_groups
                                )
                            else:
                                elect(
                                    at, node, here, row, sample, low, high, key_low, key_high,
                                    purpose, feature, flags, best, first, num_groups,
                                )  # fmt: skip
                        tl.debug_barrier()


@triton.jit(do_not_specialize=["batch_size", "ordinal", "num_groups"])
def forest_csr_kernel(
    values,  # [size] float32 or float64, in place
    begins,  # [B] int64
    counts,  # [B] int32
    indices,  # [size] int32
    node_at,  # [size] int32: each entry's node, -1 where there is nothing to decide
    parent_at,  # [size] int32: where in its sample's list the entry's parent is, or -1
    node_of,  # [N] int32
    depth_of,  # [K] int32
    feature,  # [K] int32
    parent,  # [K] int32, features
    flags,  # [K] int32, 2 * group + scaled
    means,  # [N] float32
    position,  # [2] int64: seed, index of the first sample
    best,  # [programs * S, groups] uint64, zero
    first,  # [programs * S, groups] int64, zero
    batch_size,
    ordinal,
    num_groups,
    SCALES: tl.constexpr,
    GROUPS: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
):
    """One sample after the other, from the least of its entries' depths to the greatest."""
    lane = tl.arange(0, T)[None, :] + tl.zeros([S, 1], tl.int32)
    tile = tl.arange(0, S)[:, None]
    row = (tl.program_id(0) * S + tile).to(tl.int64)
    key_low, key_high = seed_of(position)
    purpose = EXCLUSION + ordinal.to(tl.uint32)
    for base in range(tl.program_id(0) * S, batch_size, tl.num_programs(0) * S):
        sample = (base + tile).to(tl.int64)
        low, high = index_of(position, sample)
        begin = tl.load(begins + sample, mask=sample < batch_size, other=0)
        count = tl.load(counts + sample, mask=sample < batch_size, other=0)
        longest = tl.max(count)
        depth = _NOWHERE
        for start in range(0, longest, T):
            entry = start + lane
            here = entry < count
            own = tl.load(indices + begin + entry, mask=here, other=0)
            node = tl.load(node_of + own, mask=here, other=-1)
            parent_feature = tl.load(parent + node, mask=node >= 0, other=-1)
            has_parent = parent_feature >= 0
            place = _find(indices + begin, parent_feature, has_parent, count, longest)
            orphan = has_parent & (place < 0)
            tl.store(values + begin + entry, tl.zeros_like(place).to(values.dtype.element_ty),
                     mask=orphan)  # fmt: skip
            in_group = tl.load(flags + node, mask=node >= 0, other=-2) >= 0
            node = tl.where((place >= 0) | (in_group & (has_parent == 0)), node, -1)
            tl.store(node_at + begin + entry, node, mask=here)
            tl.store(parent_at + begin + entry, place, mask=here)
            its_depth = tl.load(depth_of + node, mask=node >= 0, other=_NOWHERE)
            depth = tl.minimum(depth, tl.min(its_depth))
        tl.debug_barrier()
        begin_at = 0
        end_at = longest
        while depth < _NOWHERE:
            contested = 0
            next_depth = _NOWHERE
            next_begin = end_at
            next_end = 0
            for start in range(begin_at, end_at, T):
                entry = begin + start + lane
                node, its_depth = _listed(node_at, depth_of, entry, start + lane < count)
                place = tl.load(parent_at + entry, mask=its_depth == depth, other=-1)
                contested |= gate_and_scale(
                    values + entry, values + begin + place, place >= 0, node, its_depth == depth,
                    row, low, high, key_low, key_high, purpose, feature, parent, flags, means,
                    best, num_groups, SCALES, GROUPS,
                )  # fmt: skip
                below = tl.min(tl.where(its_depth > depth, its_depth, _NOWHERE))
                if below < _NOWHERE:
                    next_depth = tl.minimum(next_depth, below)
                    next_begin = tl.minimum(next_begin, start)
                    next_end = tl.minimum(start + T, end_at)
            tl.debug_barrier()
            # Not in one condition: the first is known when the kernel is compiled.
            if GROUPS:  # noqa: SIM102
                if contested != 0:
                    for suppresses in tl.static_range(2):
                        for start in range(begin_at, end_at, T):
                            entry = begin + start + lane
                            node, its_depth = _listed(
                                node_at, depth_of, entry, start + lane < count
                            )
                            here = its_depth == depth
                            if suppresses:
                                suppress(
                                    values + entry, node, here, row, sample, flags, best, first,
                                    num_groups,
                                )  # fmt: skip
                            else:
                                elect(
                                    values + entry, node, here, row, sample, low, high, key_low,
                                    key_high, purpose, feature, flags, best, first, num_groups,
                                )  # fmt: skip
                        tl.debug_barrier()
            begin_at = next_begin
            end_at = next_end
            depth = next_depth


@triton.jit
def _listed(node_at, depth_of, entry, here):
    """Nodes of entries and their depths, -1 where there is nothing to decide."""
    node = tl.load(node_at + entry, mask=here, other=-1)
    return node, tl.load(depth_of + node, mask=node >= 0, other=-1)


@triton.jit
def _find(indices, wanted, here, count, longest):
    """Where features are among the ``count`` ascending ones at ``indices``, or -1."""
    at = tl.zeros_like(wanted)
    behind = at + count
    span = longest
    while span > 0:
        searches = here & (at < behind)
        middle = (at + behind) // 2
        before = tl.load(indices + middle, mask=searches, other=0) < wanted
        at = tl.where(searches & before, middle + 1, at)
        behind = tl.where(searches & (before == 0), middle, behind)
        span = span // 2
    found = tl.load(indices + at, mask=here & (at < count), other=-1) == wanted
    return tl.where(here & found, at, -1)
