"""A forest applied to lists of entries on the GPU, in one launch however many levels it has.

A program takes one sample after the other through the depths that occur in its list, 128 entries
at a time. A sample costs a binary search in the list for each entry's gate and, for each of those
depths, a visit of the entries from the first to the last that are not above it; three visits where
members of exclusive groups are above zero. The forest's size does not enter. Where features ascend
from the top down, as :func:`~synthkern.generate_hierarchy` numbers them, c entries at d depths
take d + c / 128 visits of 128 entries; at worst, features in no order, d * c / 128.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from synthkern.engine.triton.forest_slots import SAMPLES, slots_for
from synthkern.engine.triton.forest_steps import lead, lose, settle
from synthkern.engine.triton.forest_tables import tables_of
from synthkern.engine.triton.launch import INTERPRETED, launch
from synthkern.engine.triton.stream import EXCLUSION, index_of, seed_of
from synthkern.plan import Forest

# Lists often have some tens of entries: a warp to four of a tile's 128, and a multiprocessor has
# eight programs, 32 warps. Reasoned, not measured.
_TILE, _WARPS, _PROGRAMS = (256, 4, 2) if INTERPRETED else (128, 4, 8)

_NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["batch_size", "ordinal", "num_groups"])
def walk_lists_kernel(
    values,  # [size] float32 or float64, in place
    begins,  # [B] int64
    counts,  # [B] int32
    indices,  # [size] int32
    node_at,  # [size] int32: each entry's node, -1 where there is nothing to decide
    gate_at,  # [size] int32: where in its sample's list the entry's gate is, or -1
    node_of,  # [N] int32
    depth_of,  # [K] int32
    feature,  # [K] int32
    gate,  # [K] int32, features
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
            gate_feature = tl.load(gate + node, mask=node >= 0, other=-1)
            gated = gate_feature >= 0
            place = _find(indices + begin, gate_feature, gated, count, longest)
            orphan = gated & (place < 0)
            tl.store(values + begin + entry, tl.zeros_like(place).to(values.dtype.element_ty),
                     mask=orphan)  # fmt: skip
            in_group = tl.load(flags + node, mask=node >= 0, other=-2) >= 0
            node = tl.where((place >= 0) | (in_group & (gated == 0)), node, -1)
            tl.store(node_at + begin + entry, node, mask=here)
            tl.store(gate_at + begin + entry, place, mask=here)
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
                place = tl.load(gate_at + entry, mask=its_depth == depth, other=-1)
                contested |= settle(
                    values + entry, values + begin + place, place >= 0, node, its_depth == depth,
                    row, low, high, key_low, key_high, purpose, feature, gate, flags, means,
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
                    for start in range(begin_at, end_at, T):
                        entry = begin + start + lane
                        node, its_depth = _listed(node_at, depth_of, entry, start + lane < count)
                        lead(
                            values + entry, node, its_depth == depth, row, sample, low, high,
                            key_low, key_high, purpose, feature, flags, best, first, num_groups,
                        )  # fmt: skip
                    tl.debug_barrier()
                    for start in range(begin_at, end_at, T):
                        entry = begin + start + lane
                        node, its_depth = _listed(node_at, depth_of, entry, start + lane < count)
                        lose(
                            values + entry, node, its_depth == depth, row, sample, flags, best,
                            first, num_groups,
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


def apply_forest_csr(
    forest: Forest,
    begin: torch.Tensor,
    count: torch.Tensor,
    indices: torch.Tensor,
    values: torch.Tensor,
    means: torch.Tensor | None,
    position: torch.Tensor,
    ordinal: int,
    num_features: int,
) -> None:
    """Apply a forest to lists of entries, in place: what it takes away becomes 0.0.

    ``values[begin[b]:begin[b] + count[b]]`` become what
    :func:`~synthkern.engine.triton.forest_dense.walk_dense` makes of a row b that has them at
    ``indices[...]`` and is zero elsewhere. Waits for nothing but the forest's tables, the first
    time.

    Args:
        forest: its features are below ``num_features``.
        begin: [B] int64, where each sample's entries begin.
        count: [B] int32, how many they are; samples share no entry.
        indices: [size] int32, features, ascending within a sample.
        values: [size] float32 or float64, finite, contiguous.
        means: [N] float32, needed where the forest scales.
        position: [2] int64, the seed and the index of sample 0, as bit patterns.
        ordinal: the forest's number among those that are applied to the same samples.
        num_features: N.
    """
    tables = tables_of(forest, num_features, values.device)
    slots = slots_for(tables.num_groups, count.numel(), _PROGRAMS, values.device)
    launch(
        walk_lists_kernel,
        (slots.programs if tables.num_levels else 0,),
        values,
        begin,
        count,
        indices,
        torch.empty_like(indices),
        torch.empty_like(indices),
        tables.node_of,
        tables.depth,
        tables.feature,
        tables.gate,
        tables.flags,
        means,
        position,
        slots.best,
        slots.first,
        count.numel(),
        ordinal,
        tables.num_groups,
        SCALES=tables.scales and means is not None,
        GROUPS=tables.num_groups > 0,
        S=SAMPLES,
        T=_TILE,
        num_warps=_WARPS,
        num_stages=1,
    )
