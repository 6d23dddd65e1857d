"""Some of an evaluation's samples, kept for what needs them all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from synthkern.evaluation.calculator import Groups
from synthkern.sparse import SparseActivations

#: Samples that are kept of all groups, and entries of each kind.
_SAMPLES = 2**17
_ENTRIES = 2**24


class KeptSamples:
    """The first samples of each of G groups, as many as fit.

    Of each group these are a G-th of 131,072, and of 2**24 entries of any kind, 128 MiB.

    Args:
        groups: G.
        widths: N of each kind of entries.
    """

    def __init__(self, groups: int, *widths: int) -> None:
        self._widths = widths
        self._samples = [_SAMPLES // max(1, groups)] * groups
        #: Room that is left, of each kind: what is kept is the same however samples come.
        self._rooms = [[_ENTRIES // max(1, groups)] * len(widths) for _ in range(groups)]
        self._parts: list[list[list[SparseActivations]]] = [[] for _ in range(groups)]

    def add(self, groups: Groups, *kinds: SparseActivations) -> None:
        """Add successive samples: entries [B, N] of each kind."""
        begin = 0
        for group, size in enumerate(groups.sizes.tolist(), groups.place.start):
            count = min(size, self._samples[group])
            if count:
                self._keep(group, [entries[begin : begin + count] for entries in kinds])
            begin += size

    def _keep(self, group: int, kinds: list[SparseActivations]) -> None:
        rooms, count = self._rooms[group], len(kinds[0])
        fitting = min(
            int((entries.offsets[1:] <= room).sum())
            for entries, room in zip(kinds, rooms, strict=True)
        )
        # After one that does not fit none is kept: small ones are no fair sample.
        self._samples[group] = self._samples[group] - fitting if fitting == count else 0
        if fitting:
            part = [_copied(entries[:fitting]) for entries in kinds]
            self._parts[group].append(part)
            self._rooms[group] = [
                room - entries.nnz for entries, room in zip(part, rooms, strict=True)
            ]

    def matrices(self, groups: Sequence[int]) -> list[Any]:
        """What is kept of some groups, of each kind a ``scipy.sparse.csr_array`` [S, N]."""
        parts = [part for group in groups for part in self._parts[group]]
        kinds = zip(*parts, strict=True) if parts else ((),) * len(self._widths)
        return [_matrix(each, width) for each, width in zip(kinds, self._widths, strict=True)]

    def sizes(self, groups: Sequence[int]) -> list[int]:
        """Of how many samples."""
        return [sum(len(part[0]) for part in self._parts[group]) for group in groups]


def _copied(entries: SparseActivations) -> SparseActivations:
    """Entries on the CPU that hold nothing of a batch, float32."""
    values = entries.values.detach().to("cpu", torch.float32, copy=True)
    indices = entries.indices.to("cpu", copy=True)
    return SparseActivations(
        entries.offsets.cpu(), indices, values, entries.num_features, validate=False
    )


def _matrix(parts: Sequence[SparseActivations], width: int) -> Any:
    # Importing it takes a tenth of a second.
    from scipy import sparse

    if not parts:
        return sparse.csr_array((0, width), dtype=np.float32)
    offsets, indices, values = SparseActivations.cat(parts).numpy()
    shape = len(offsets) - 1, width
    return sparse.csr_array((values, indices, offsets.astype(np.int32)), shape=shape)
