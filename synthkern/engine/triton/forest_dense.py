"""A forest applied to dense activations on the GPU, in one launch however many levels it has.

A program takes one sample after the other through the levels. A sample costs a visit of its K
nodes (feature, gate and value; the rest only where a tile of nodes has values), and where
members of exclusive groups are above zero, two more visits of their level. The floor is memory: of
the B * N numbers those of the forest are read and written once, besides what copies them.
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

# A lane has four nodes, a multiprocessor four programs, 32 warps. Reasoned, not measured.
_TILE, _WARPS, _PROGRAMS = (256, 4, 2) if INTERPRETED else (1024, 8, 4)


@triton.jit(do_not_specialize=["batch_size", "num_levels", "ordinal", "num_groups"])
def walk_dense_kernel(
    activations,  # [B, N] float32 or float64, in place
    levels,  # [L + 1] int32
    feature,  # [K] int32
    gate,  # [K] int32, features
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
                gate_feature = tl.load(gate + node, mask=here, other=-1)
                contested |= settle(
                    at, own + gate_feature, gate_feature >= 0, node, here, row, low, high,
                    key_low, key_high, purpose, feature, gate, flags, means, best, num_groups,
                    SCALES, GROUPS,
                )  # fmt: skip
            tl.debug_barrier()
            # Not in one condition: the first is known when the kernel is compiled.
            if GROUPS:  # noqa: SIM102
                if contested != 0:
                    for start in range(begin, end, T):
                        node = start + lane
                        here = (node < end) & (sample < batch_size)
                        at = own + tl.load(feature + node, mask=here, other=0)
                        lead(
                            at, node, here, row, sample, low, high, key_low, key_high, purpose,
                            feature, flags, best, first, num_groups,
                        )  # fmt: skip
                    tl.debug_barrier()
                    for start in range(begin, end, T):
                        node = start + lane
                        here = (node < end) & (sample < batch_size)
                        at = own + tl.load(feature + node, mask=here, other=0)
                        lose(at, node, here, row, sample, flags, best, first, num_groups)
                    tl.debug_barrier()


def walk_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    position: torch.Tensor,
    ordinal: int,
) -> None:
    """Apply a forest to activations [B, N], in place.

    From the top down, ``x[b, j]`` becomes ``x[b, j] * (x[b, g] / means[g])``, with g the gate of
    j, or 0 where ``x[b, g]`` is not above zero (without the factor where j is not scaled or is
    zero); then of each exclusive group's members above zero the one with the greatest priority
    stays, and the others become 0. Waits for nothing but the forest's tables, the first time.

    Args:
        forest: its features are below N.
        activations: [B, N] float32 or float64, finite, contiguous.
        means: [N] float32, needed where the forest scales.
        position: [2] int64, the seed and the index of sample 0, as bit patterns.
        ordinal: the forest's number among those that are applied to the same samples.
    """
    batch_size, num_features = activations.shape
    tables = tables_of(forest, num_features, activations.device)
    slots = slots_for(tables.num_groups, batch_size, _PROGRAMS, activations.device)
    launch(
        walk_dense_kernel,
        (slots.programs if tables.num_levels else 0,),
        activations,
        tables.levels,
        tables.feature,
        tables.gate,
        tables.flags,
        means,
        position,
        slots.best,
        slots.first,
        batch_size,
        num_features,
        tables.num_levels,
        ordinal,
        tables.num_groups,
        SCALES=tables.scales and means is not None,
        GROUPS=tables.num_groups > 0,
        S=SAMPLES,
        T=_TILE,
        num_warps=_WARPS,
        num_stages=1,
    )
