"""A forest applied to given activations on the GPU, dense or in lists, in one launch.

A program takes one sample after the other through the levels, however many there are.

Dense, a sample costs a visit of its K nodes (feature, parent and value; the rest only where a tile
of nodes has values), and where members of exclusive groups are above zero, two more visits of their
level. The floor is memory: of the B * N numbers those of the forest are read and written once,
besides what copies them.

In lists, only the depths that occur in a sample's list are visited. A sample costs a binary search
in the list for each entry's parent and, for each of those depths, a visit of the entries from the
first to the last that are not above it; three visits where members of exclusive groups are above
zero. The forest's size does not enter. Where features ascend from the top down, as
:func:`~synthkern.generate_hierarchy` numbers them, c entries at d depths take d + c / 128 visits of
128 entries; at worst, features in no order, d * c / 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import triton

from synthkern._checks import check_finite
from synthkern.engine.triton.forest_kernels import forest_csr_kernel, forest_dense_kernel
from synthkern.engine.triton.launch import INTERPRETED, launch, position_on, processors
from synthkern.plan import Forest
from synthkern.sparse import SparseActivations

#: Samples that a program works on at once: one, so that no sample waits for another's levels. In
#: the interpreter an operation costs the same whatever its size, and a program takes many.
SAMPLES = 64 if INTERPRETED else 1

#: Bytes that the slots may take: 16 a group for each sample that is worked on. At 1,048,576
#: features they are enough for 1,600 programs where each hundred are a group, for 64 where each
#: four are, and for 32 where each two are.
_MEMORY = 2**28

# Nodes or entries of a tile, warps of a program, programs on a multiprocessor: 32 warps. Dense, a
# lane has four nodes; lists often have some tens of entries, and a lane has one. Reasoned, not
# measured.
_DENSE_TILE, _DENSE_WARPS, _DENSE_PROGRAMS = (256, 4, 2) if INTERPRETED else (1024, 8, 4)
_LIST_TILE, _LIST_WARPS, _LIST_PROGRAMS = (256, 4, 2) if INTERPRETED else (128, 4, 8)


@dataclass(frozen=True)
class ForestTables:
    """The tables of a forest of K nodes over N features, on one device.

    Attributes:
        feature: [K] int32, the feature of each node.
        parent: [K] int32, the feature of each node's parent, or -1.
        flags: [K] int32, 2 * the exclusive group of each node, -1 for none, + 1 where the parent
            scales it.
        depth: [K] int32, the level of each node, from 0 for those that nothing gates.
        node_of: [N] int32, the node of each feature, or -1.
        levels: [L + 1] int32, where the levels begin that have something to decide, and the end
            of the last; the nodes that nothing gates are such a level only where some of them are
            in exclusive groups.
        num_groups: number of exclusive groups.
        scales: whether any node is scaled.
    """

    feature: torch.Tensor
    parent: torch.Tensor
    flags: torch.Tensor
    depth: torch.Tensor
    node_of: torch.Tensor
    levels: torch.Tensor
    num_groups: int
    scales: bool

    @property
    def num_levels(self) -> int:
        """Number of levels L."""
        return self.levels.numel() - 1


_tables: WeakKeyDictionary[Forest, dict[tuple[torch.device, int], ForestTables]] = (
    WeakKeyDictionary()
)


def tables_of(forest: Forest, num_features: int, device: torch.device) -> ForestTables:
    """The tables of a forest, whose features are below ``num_features``, on ``device``.

    They are made on the host, the first time; that waits for a forest that is on a GPU.
    """
    made = _tables.setdefault(forest, {})
    key = (device, num_features)
    if key not in made:
        made[key] = _tabulate(forest.to("cpu"), num_features, device)
    return made[key]


def _tabulate(forest: Forest, num_features: int, device: torch.device) -> ForestTables:
    has_parent = forest.parent >= 0
    parent = forest.parent.clone()
    parent[has_parent] = forest.feature[forest.parent[has_parent].long()]
    begins = torch.tensor([level.start for level in forest.levels()] + [forest.num_nodes])
    depth = torch.arange(begins.numel() - 1).repeat_interleave(begins.diff())
    roots_are_free = not bool((forest.group[~has_parent] >= 0).any())
    levels = begins[1:] if roots_are_free and forest.num_nodes else begins
    return ForestTables(
        feature=forest.feature.to(device),
        parent=parent.to(device),
        flags=forest.packed()[:, 3].contiguous().to(device),
        depth=depth.int().to(device),
        node_of=forest.node_of(num_features).to(device),
        levels=levels.int().to(device),
        num_groups=int(forest.group.max()) + 1 if forest.num_nodes else 0,
        scales=forest.scales,
    )


class Slots(NamedTuple):
    """The programs of a launch and what they need for contests.

    Attributes:
        programs: how many there are.
        best: [programs * SAMPLES, groups] uint64, zero; None without groups.
        first: the same in int64.
    """

    programs: int
    best: torch.Tensor | None
    first: torch.Tensor | None


def slots_for(num_groups: int, batch_size: int, most: int, device: torch.device) -> Slots:
    """As many programs as the samples ask for, but not more than ``most`` for a multiprocessor
    nor than there is memory for, save for the first.
    """
    programs = min(triton.cdiv(batch_size, SAMPLES), most * processors(device))
    if not num_groups:
        return Slots(programs, None, None)
    programs = min(programs, max(1, _MEMORY // (16 * SAMPLES * num_groups)))
    slots = torch.zeros(2, programs * SAMPLES, num_groups, dtype=torch.int64, device=device)
    return Slots(programs, slots[0].view(torch.uint64), slots[1])


def apply_forest_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> torch.Tensor:
    """Apply a forest to activations [B, N]: a new tensor.

    From the top down, ``x[b, j]`` becomes ``x[b, j] * (x[b, g] / means[g])``, with g the parent of
    j, or 0 where ``x[b, g]`` is not above zero (without the factor where j is not scaled or is
    zero); then of each exclusive group's members above zero the one with the greatest priority
    stays, and the others become 0. Waits for the device once, to check that the activations are
    finite, and the first time for the forest's tables.
    """
    check_finite("activations", activations)
    applied = activations.detach().clone(memory_format=torch.contiguous_format)
    batch_size, num_features = activations.shape
    tables = tables_of(forest, num_features, activations.device)
    slots = slots_for(tables.num_groups, batch_size, _DENSE_PROGRAMS, activations.device)
    launch(
        forest_dense_kernel,
        (slots.programs if tables.num_levels else 0,),
        applied,
        tables.levels,
        tables.feature,
        tables.parent,
        tables.flags,
        means,
        position_on(applied.device, seed, start),
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
        T=_DENSE_TILE,
        num_warps=_DENSE_WARPS,
        num_stages=1,
    )
    return applied


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

    ``values[begin[b]:begin[b] + count[b]]`` become what :func:`apply_forest_dense` makes of a
    row b that has them at ``indices[...]`` and is zero elsewhere. Waits for nothing but the
    forest's tables, the first time.

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
    slots = slots_for(tables.num_groups, count.numel(), _LIST_PROGRAMS, values.device)
    launch(
        forest_csr_kernel,
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
        tables.parent,
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
        T=_LIST_TILE,
        num_warps=_LIST_WARPS,
        num_stages=1,
    )


def apply_forest_sparse(
    forest: Forest,
    activations: SparseActivations,
    means: torch.Tensor | None,
    seed: int,
    start: int,
    ordinal: int,
    /,
) -> SparseActivations:
    """Apply a forest to activations in CSR form, as :func:`apply_forest_csr` does.

    They are finite, which the engine has checked. Entries that are or became zero are dropped;
    waits for the device once, for the number of those that are left.
    """
    values = activations.values.detach().clone(memory_format=torch.contiguous_format)
    apply_forest_csr(
        forest,
        activations.offsets[:-1].contiguous(),
        activations.offsets.diff().int(),
        activations.indices.contiguous(),
        values,
        means,
        position_on(values.device, seed, start),
        ordinal,
        activations.num_features,
    )
    return activations.with_values(values).drop_zeros()
